"""The fleet: all processes of the machines that share this ledger, as their heartbeats show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from node.errors import NotFoundError
from node.jobs.queues import running_attempts
from node.ledger.associations import open_by_receiver
from node.ledger.clock import ledger_clock
from node.ledger.drained_machines import MachineKey, drain_machines, drained_machines, undo_drain
from node.ledger.engine import begin_immediate
from node.ledger.members import Member, beats, lost_members, remove_lost
from node.ledger.states import MemberState
from node.process.presence import host_name, process_exists, process_space

ALIVE_SECONDS = 30.0
"""A member that was silent for longer is not counted."""


def abandon_machine(engine: sa.Engine, machine: str) -> int:
    """Stop waiting for receivers that died on a machine, named by its host name or the beginning of its id.

    Returns how many. Raises ``NotFoundError`` when none of them is lost.
    """
    with begin_immediate(engine) as connection:
        lost = [
            beat.member.id
            for beat in lost_members(connection)
            if beat.member.host_name == machine or (machine and beat.member.machine.startswith(machine))
        ]
        if not lost:
            raise NotFoundError(f"no receiver of {machine!r} is lost; `ainode fleet` lists names and ids")
        return remove_lost(connection, lost)


def drain(engine: sa.Engine, machine: str) -> list[str]:
    """Have the processes of a machine begin nothing more; return its names.

    It is named by its host name or the beginning of its id, which machines with one storage folder share. Raises
    ``NotFoundError`` when no process runs there.
    """
    with begin_immediate(engine) as connection:
        found = _named(((beat.member.machine, beat.member.host_name) for beat in beats(connection)), machine)
        drain_machines(connection, found)
    return [name for _, name in sorted(found)]


def end_drain(engine: sa.Engine, machine: str) -> list[str]:
    """Let the processes of a machine work again; return its names. Raises ``NotFoundError`` when it is not drained."""
    with begin_immediate(engine) as connection:
        found = _named(drained_machines(connection), machine)
        undo_drain(connection, found)
    return [name for _, name in sorted(found)]


def is_machine_drained(connection: sa.Connection, machine: str) -> bool:
    """Whether an operator drains this host. ``machine``: the id of its storage folder."""
    return (machine, host_name()) in drained_machines(connection)


def _named(machines: Iterable[MachineKey], name: str) -> set[MachineKey]:
    found = {(of, host) for of, host in machines if name and (host == name or of.startswith(name))}
    if not found:
        raise NotFoundError(f"no machine {name!r}; `ainode fleet` lists names and ids")
    return found


def fleet(engine: sa.Engine) -> list[dict[str, Any]]:
    """Every member that has not left: its description, state and the age of its last beat in seconds.

    ``busy``: its open associations that have brought images, or the attempts that it executes.
    """
    with engine.connect() as connection:
        at, members = ledger_clock(connection), beats(connection)
        busy = open_by_receiver(connection) | running_attempts(connection)
    return [
        {
            **asdict(beat.member),
            "host": beat.member.host_name,
            "state": beat.state,
            "busy": busy.get(beat.member.id, 0),
            "beat_age_seconds": round(max(at - beat.at, 0.0), 1),
        }
        for beat in members
    ]


def live_members(connection: sa.Connection) -> list[Member]:
    """Return the processes with a recent heartbeat, without those of this machine that died."""
    here, since = process_space(), ledger_clock(connection) - ALIVE_SECONDS
    return [
        beat.member
        for beat in beats(connection)
        if beat.at > since
        and beat.state != MemberState.LOST
        and (beat.member.host != here or process_exists(beat.member.pid))
    ]
