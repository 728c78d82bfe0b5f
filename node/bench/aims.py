"""Targets for durable reception, and whether the runs of one benchmark met them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from node.bench.report import OURS, Line
from node.bench.servers import NodeTls, Orthanc, PlainPynetdicom, StoreScp

_SENDER = "scripted"
Measured = Mapping[str, Line]
"""The receivers of one cell, by name."""


@dataclass(frozen=True)
class Aim:
    """A figure that is to be reached at some numbers of associations."""

    words: str
    associations: tuple[int, ...]
    value: Callable[[Measured], float | None]
    """``None``: it was not measured."""
    limit: float
    at_most: bool = False

    def words_for(self, kind: str, results: list[Line]) -> str:
        """The figures for one kind of instance, as in docs/development/benchmarks.md: bold where the aim is missed."""
        parts = []
        for number in self.associations:
            lines = [x for x in results if (x.cell.kind, x.cell.sender, x.cell.associations) == (kind, _SENDER, number)]
            value = self.value({line.server: line for line in lines})
            missed = value is not None and (value > self.limit if self.at_most else value < self.limit)
            words = "not measured" if value is None else f"{value:.{0 if value >= 20 else 2}f}"
            parts.append(f"**{words}**" if missed else words)
        return ", ".join(parts)


def _times(peer: str) -> Callable[[Measured], float | None]:
    """Our rate by that of another receiver, the median of the rounds."""

    def value(measured: Measured) -> float | None:
        ratio = measured[peer].ratio if peer in measured else None
        return ratio.median if ratio else None

    return value


def _tls_share(measured: Measured) -> float | None:
    times = _times(NodeTls.name)(measured)
    return 1 / times if times else None


def _p99_times(measured: Measured) -> float | None:
    ours, theirs = (measured[name].p99_ms if name in measured else None for name in (OURS, StoreScp.name))
    return ours / theirs if ours and theirs else None


def _cpu(measured: Measured) -> float | None:
    return measured[OURS].cpu_per_1000.median if OURS in measured else None


def _megabytes(measured: Measured) -> float | None:
    return measured[OURS].largest_mb if OURS in measured else None


AIMS = (
    Aim("2.0 x Orthanc (which syncs nothing) at 1, 4, 16", (1, 4, 16), _times(Orthanc.name), 2.0),
    Aim("5 x the plain pynetdicom handler at 4, 16", (4, 16), _times(PlainPynetdicom.name), 5.0),
    Aim("0.7 x storescp made to sync at 1", (1,), _times(StoreScp.name), 0.7),
    Aim("0.95 x storescp made to sync at 4, 16", (4, 16), _times(StoreScp.name), 0.95),
    Aim("TLS at least 0.6 of plain at 1, 4, 16", (1, 4, 16), _tls_share, 0.6),
    Aim("1.3 CPU s per 1000 at 1, 4, 16", (1, 4, 16), _cpu, 1.3, at_most=True),
    Aim("120 MB resident per process at 64", (64,), _megabytes, 120.0, at_most=True),
    Aim("p99 at 16 at most 1.3 x storescp's", (16,), _p99_times, 1.3, at_most=True),
)


def markdown(lines: list[Line]) -> str:
    """A table for docs/development/benchmarks.md."""
    kinds = sorted({line.cell.kind for line in lines})
    rows = [" | ".join([aim.words, *(aim.words_for(kind, lines) for kind in kinds)]) for aim in AIMS]
    return "\n".join([f"| aim | {' | '.join(kinds)} |", "|---|" + "---|" * len(kinds), *(f"| {row} |" for row in rows)])
