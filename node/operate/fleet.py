"""The fleet: all processes of the machines that share this ledger, as their heartbeats show them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from node.errors import NotFoundError
from node.ledger.associations import open_by_receiver
from node.ledger.clock import ledger_clock
from node.ledger.drained_machines import MachineKey, drain_machines, drained_machines, undo_drain
from node.ledger.engine import begin_immediate
from node.ledger.jobs import get_job, update_job
from node.ledger.members import Beat, Member, beats, lost_members, remove_lost
from node.ledger.missing_copies import (
    is_machine_alive,
    lose_machine,
    machines_with_files,
)
from node.ledger.retention import locked_study, purge_results
from node.ledger.retry_transitions import retry_job
from node.ledger.states import ACTIVE, JobStage, JobState, MemberState
from node.process.presence import host_name, process_exists, process_space
from node.queues.attempt_queues import running_attempts

ALIVE_SECONDS = 30.0
"""A member that was silent for longer is not counted."""
SETTLED_SECONDS = 60.0
"""After which a process has what its machine is to have: the others reload meanwhile."""
_RESULTS = "results/"
"""Before the id of a job: the folder of its results."""


@dataclass(frozen=True, kw_only=True)
class Abandoned:
    """What the ledger no longer expects of a machine."""

    receivers: int
    """That died there."""
    folders: tuple[str, ...]
    """In which no other machine has files."""


def abandon_machine(engine: sa.Engine, machine: str) -> Abandoned:
    """Stop waiting for the disk of a machine, named by the host name of a lost receiver or the beginning of its id.

    What had a second copy there gets another one. Raises ``NotFoundError`` when no receiver of it is lost, and it runs
    or never had files; or when it has files and a process of it ran until seconds ago.
    """
    with begin_immediate(engine) as connection:
        lost = [
            beat.member
            for beat in lost_members(connection)
            if beat.member.host_name == machine or (machine and beat.member.machine.startswith(machine))
        ]
        having = machines_with_files(connection)
        named = {of for of in having if machine and of.startswith(machine)} | {member.machine for member in lost}
        machines = {of for of in named if not is_machine_alive(connection, of, MemberState.LOST)}
        if beating := (named & having) - machines if lost else ():
            raise NotFoundError(
                f"a process of machine {min(beating)[:8]} was there seconds ago, so its files are not given up; "
                "say it again in a minute if the machine is gone"
            )
        if not lost and not machines:
            raise NotFoundError(f"{machine!r} is no machine that is gone; `ainode fleet` lists names and ids")
        folders = list[str]()
        for of in sorted(machines):
            only_there = lose_machine(connection, of)
            _lose_results(connection, of, only_there)
            folders += only_there
        return Abandoned(receivers=remove_lost(connection, [member.id for member in lost]), folders=tuple(folders))


def _lose_results(connection: sa.Connection, machine: str, folders: Iterable[str]) -> None:
    """Have jobs analysed again that were not delivered; those that have ended are without results from now on."""
    for job_id in [folder.removeprefix(_RESULTS) for folder in folders if folder.startswith(_RESULTS)]:
        job = get_job(connection, job_id)
        if job.state in ACTIVE and job.stage == JobStage.DELIVER:
            update_job(connection, job_id, state=JobState.CANCELED)
            retry_job(connection, job_id, JobStage.INFER)
        elif job.state not in ACTIVE:
            locked_study(connection, job.study_instance_uid)
            purge_results(connection, job_id, machine)


def drain(engine: sa.Engine, machine: str) -> list[str]:
    """Have the processes of a machine begin nothing more; return its names.

    It is named by its host name or the beginning of its id, which machines with one storage folder share. Raises
    ``NotFoundError`` when no process runs there.
    """
    with begin_immediate(engine) as connection:
        machines = _named(((beat.member.machine, beat.member.host_name) for beat in beats(connection)), machine)
        drain_machines(connection, machines)
    return [name for _, name in sorted(machines)]


def wait_until_idle(
    engine: sa.Engine, machine: str, seconds: float, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Wait until the processes of a drained machine have finished what they began; return what they still have.

    ``seconds``: the longest wait, in steps of a second. A process that has not beaten since it is drained may begin
    something yet, so it counts as one. Those that no longer beat are not waited for.
    """
    left = unfinished(engine, machine)
    for _ in range(math.ceil(seconds)):
        if not left:
            break
        sleep(1.0)
        left = unfinished(engine, machine)
    return left


def unfinished(engine: sa.Engine, machine: str) -> int:
    """Count open associations and running attempts of a machine, and its processes that do not know they drain."""
    members = [
        member
        for member in fleet(engine)
        if (member["host"] == machine or member["machine"].startswith(machine))
        and member["state"] != MemberState.LOST
        and member["beat_age_seconds"] < ALIVE_SECONDS
    ]
    return sum(member["busy"] or (member["state"] != MemberState.DRAINING) for member in members)


def end_drain(engine: sa.Engine, machine: str) -> list[str]:
    """Let the processes of a machine work again; return its names. Raises ``NotFoundError`` when it is not drained."""
    with begin_immediate(engine) as connection:
        machines = _named(drained_machines(connection), machine)
        undo_drain(connection, machines)
    return [name for _, name in sorted(machines)]


def is_machine_drained(connection: sa.Connection, machine: str) -> bool:
    """Whether an operator drains this host. ``machine``: the id of its storage folder."""
    return (machine, host_name()) in drained_machines(connection)


def _named(machines: Iterable[MachineKey], name: str) -> set[MachineKey]:
    keys = {(of, host) for of, host in machines if name and (host == name or of.startswith(name))}
    if not keys:
        raise NotFoundError(f"no machine {name!r}; `ainode fleet` lists names and ids")
    return keys


def fleet(engine: sa.Engine) -> list[dict[str, Any]]:
    """Every member that has not left: its description, state and the age of its last beat in seconds.

    With the figures of its machine at that beat: offset of the clock, free and total bytes of the storage folder.
    ``busy``: its open associations that have brought images, or the attempts that it executes.
    """
    with engine.connect() as connection:
        at, members = ledger_clock(connection), beats(connection)
        busy = open_by_receiver(connection) | running_attempts(connection)
    return [
        {
            **asdict(beat.member),
            **asdict(beat.figures),
            "host": beat.member.host_name,
            "state": beat.state,
            "busy": busy.get(beat.member.id, 0),
            "beat_age_seconds": round(max(at - beat.at, 0.0), 1),
        }
        for beat in members
    ]


def differing_tables(connection: sa.Connection) -> dict[str, list[list[str]]]:
    """Shared tables of ``config.toml`` that not all processes have read alike.

    For each the names of the machines, those in one list that have read the same. A machine of which processes differ
    is in several. Of each role the newest process of a machine counts, and not before a minute: after a change the
    machines reload one by one, and old processes stay until new ones have loaded their models.
    """
    newest: dict[tuple[str, str], Beat] = {}
    for beat in sorted(live_beats(connection), key=lambda beat: beat.began_at or 0.0):
        if beat.state == MemberState.ACTIVE:
            newest[beat.member.host, beat.member.role] = beat
    read: dict[str, dict[str, set[str]]] = {}
    settled = ledger_clock(connection) - SETTLED_SECONDS
    for beat in newest.values():
        for table, digest in beat.member.configuration.items() if (beat.began_at or 0.0) <= settled else ():
            read.setdefault(table, {}).setdefault(digest, set()).add(beat.member.host_name)
    return {table: sorted(map(sorted, hosts.values())) for table, hosts in read.items() if len(hosts) > 1}


def live_members(connection: sa.Connection) -> list[Member]:
    """Return the processes with a recent heartbeat, without those of this machine that died."""
    return [beat.member for beat in live_beats(connection)]


def live_beats(connection: sa.Connection) -> list[Beat]:
    """Return the last heartbeats of these."""
    here, since = process_space(), ledger_clock(connection) - ALIVE_SECONDS
    return [
        beat
        for beat in beats(connection)
        if beat.at > since
        and beat.state != MemberState.LOST
        and (beat.member.host != here or process_exists(beat.member.pid))
    ]
