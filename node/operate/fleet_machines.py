"""Machines of the fleet, each with its processes, and in words what an operator must notice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import FAR_SECONDS
from node.ledger.drained_machines import MachineKey
from node.ledger.missing_copies import count_missing_copies
from node.ledger.states import MemberState
from node.operate.fleet import ALIVE_SECONDS, differing_tables, live_beats
from node.spool.free_space import Space
from node.translation import decimal, gettext, marked, ngettext

SILENT = marked("silent")
"""In place of the state of a process that has not beaten for a while, and that nobody has found dead yet."""

_LOAD = {
    "receiver": marked("{number} open associations"),
    "worker": marked("{number} running attempts"),
    "sender": marked("{number} running attempts"),
}


@dataclass(frozen=True, kw_only=True)
class FleetMachine:
    """What shares one storage folder, or a host of several that do."""

    host: str
    machine: str
    """The id of its storage folder."""
    members: tuple[Mapping[str, Any], ...]
    """Its processes, as ``node.operate.fleet.fleet`` returns them; a drained machine may have none."""
    drained_at: float | None = None

    @property
    def clock(self) -> tuple[float, float] | None:
        """By how many seconds its clock is ahead of the ledger's, and the error of that."""
        of = self._latest("clock_offset_seconds")
        return (of["clock_offset_seconds"], of["clock_error_seconds"]) if of else None

    @property
    def space(self) -> Space | None:
        """Of its storage folder."""
        of = self._latest("free_bytes")
        return Space(total=of["total_bytes"], free=of["free_bytes"]) if of else None

    @property
    def min_free_gib(self) -> float | None:
        """Below which it refuses images; ``None``: its processes are of an older version."""
        of = self._latest("min_free_gib")
        return of["min_free_gib"] if of else None

    def notices(self) -> list[str]:
        """Return a sentence for each thing that is certainly wrong."""
        states, space, least = [shown_state(member) for member in self.members], self.space, self.min_free_gib
        notices = []
        if number := states.count(MemberState.LOST):
            notices.append(
                ngettext(
                    "{number} receiver died; images that it acknowledged may wait on this machine's disk without a row "
                    "in the ledger. Start a receiver there",
                    "{number} receivers died; images that they acknowledged may wait on this machine's disk without a "
                    "row in the ledger. Start a receiver there",
                    number,
                )
            )
        if number := states.count(SILENT):
            notices.append(
                ngettext(
                    "{number} process has not beaten for {seconds} s or longer",
                    "{number} processes have not beaten for {seconds} s or longer",
                    number,
                    seconds=f"{ALIVE_SECONDS:.0f}",
                )
            )
        if self.clock is not None:
            notices += _clock_notice(self.host, *self.clock)
        if space is not None and least is not None and space.is_below(least):
            notices.append(low_space_text(space, least))
        if space is None and least is not None:
            notices.append(gettext("the file system of its storage folder does not answer"))
        return notices

    @property
    def _live(self) -> list[Mapping[str, Any]]:
        return [member for member in self.members if shown_state(member) in (MemberState.ACTIVE, MemberState.DRAINING)]

    def _latest(self, figure: str) -> Mapping[str, Any] | None:
        known = [member for member in self._live if member[figure] is not None]
        return min(known, key=lambda member: member["beat_age_seconds"], default=None)


def fleet_machines(
    members: Iterable[Mapping[str, Any]], drained: Mapping[MachineKey, float] | None = None
) -> list[FleetMachine]:
    """Group processes by machine; ``drained``: machines that an operator drains, and since when."""
    drained = drained or {}
    grouped: dict[MachineKey, list[Mapping[str, Any]]] = {key: [] for key in drained}
    for member in members:
        grouped.setdefault((member["machine"], member["host"]), []).append(member)
    return [
        FleetMachine(host=host, machine=machine, members=tuple(of), drained_at=drained.get((machine, host)))
        for (machine, host), of in sorted(grouped.items(), key=lambda item: (item[0][1], item[0][0]))
    ]


def clock_alerts(connection: sa.Connection) -> dict[str, str]:
    """Return an alert for each host whose clock certainly differs from the ledger's."""
    alerts: dict[str, str] = {}
    for beat in live_beats(connection):
        offset, error, host = beat.figures.clock_offset_seconds, beat.figures.clock_error_seconds, beat.member.host_name
        if offset is not None and error is not None:
            alerts |= {f"clock {host}": sentence for sentence in _clock_notice(host, offset, error)}
    return alerts


def low_space_text(space: Space, least_gib: float) -> str:
    """Say how little space is free."""
    return gettext(
        "{free:.1f} GiB are free; images are refused below {least:g} GiB", free=space.free_gib, least=least_gib
    )


def _clock_notice(host: str, offset: float, error: float) -> list[str]:
    if abs(offset) - error <= FAR_SECONDS:
        return []
    return [
        gettext(
            "the clock of {host} is {offset} from the ledger's; synchronise both with NTP: times in logs disagree, and "
            "valid certificates may be refused",
            host=host,
            offset=offset_text(offset, error),
        )
    ]


def shown_state(member: Mapping[str, Any]) -> str:
    """Return the state of a process, or that it is silent."""
    is_silent = member["state"] != MemberState.LOST and member["beat_age_seconds"] >= ALIVE_SECONDS
    return SILENT if is_silent else str(member["state"])


def load_text(member: Mapping[str, Any]) -> str:
    """Return what a process has in hand; empty for a role that has nothing of the kind."""
    text = _LOAD.get(member["role"], "")
    return gettext(text, number=member["busy"]) if text else ""


def offset_text(seconds: float, error: float) -> str:
    """Return ``offset_texts`` in one."""
    return " ± ".join(offset_texts(seconds, error))


def offset_texts(seconds: float, error: float) -> tuple[str, str]:
    """Return an offset in tenths of a second, and its error: that of the measurement and of the rounding."""
    return decimal(f"{round(seconds, 1) + 0.0:+.1f} s"), decimal(f"{ceil(error * 10 + 0.5) / 10:.1f} s")


def fleet_notices(connection: sa.Connection, members: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each thing in which the machines differ, and for copies that are missing."""
    versions: dict[str, set[str]] = {}
    for member in members:
        if member["state"] != MemberState.LOST:
            versions.setdefault(member["version"], set()).add(member["host"])
    notices = []
    if len(versions) > 1:
        each = " / ".join(f"{version} ({', '.join(sorted(hosts))})" for version, hosts in sorted(versions.items()))
        notices.append(gettext("processes run different versions of the node: {versions}", versions=each))
    for table, alike in differing_tables(connection).items():
        hosts = " / ".join(map(", ".join, alike))
        notices.append(gettext("[{table}] of config.toml is not the same on {hosts}", table=table, hosts=hosts))
    if files := count_missing_copies(connection).files:
        notices.append(
            ngettext(
                "{number} file has one copy only; the second one is being made, or waits for another machine",
                "{number} files have one copy only; the second one is being made, or waits for another machine",
                files,
            )
        )
    return notices
