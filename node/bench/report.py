"""Figures of a bench as a table for the terminal, as Markdown for docs/development/benchmarks.md, as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.table import Table

from node.bench.receive import Cell, Run
from node.bench.servers import SERVERS

OURS = "node"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median with the least and the greatest value."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median=statistics.median(values), least=min(values), greatest=max(values))

    def words(self, digits: int) -> str:
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}-{self.greatest:.{digits}f})"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One receiver in one cell, over all rounds."""

    cell: Cell
    server: str
    rate: Spread
    """Instances per second."""
    ratio: Spread | None
    """Our rate divided by its rate, round by round; ``None`` for ourselves, or when we were not measured."""
    cpu_per_1000: Spread
    """CPU seconds of the server's processes for 1000 instances."""
    largest_mb: float
    together_mb: float
    p50_ms: float | None
    p99_ms: float | None


def lines(runs: Iterable[Run]) -> list[Line]:
    """Medians and ratios, in the order in which they were measured."""
    runs_by_cell: dict[tuple[Cell, str], list[Run]] = {}
    for run in runs:
        runs_by_cell.setdefault((run.cell, run.server), []).append(run)
    return [_line(group, runs_by_cell.get((cell, OURS), [])) for (cell, _), group in runs_by_cell.items()]


def _line(group: list[Run], ours: list[Run]) -> Line:
    rates = [run.instances / run.seconds for run in group]
    our_rates = [run.instances / run.seconds for run in ours]
    latencies = sorted(latency * 1000 for run in group for latency in run.latencies)
    is_ours = group[0].server == OURS
    return Line(
        cell=group[0].cell,
        server=group[0].server,
        rate=Spread.of(rates),
        ratio=None if is_ours or not ours else Spread.of([a / b for a, b in zip(our_rates, rates, strict=False)]),
        cpu_per_1000=Spread.of([run.cpu_seconds / run.instances * 1000 for run in group]),
        largest_mb=max(run.largest_mb for run in group),
        together_mb=max(run.together_mb for run in group),
        p50_ms=_quantile(latencies, 0.5),
        p99_ms=_quantile(latencies, 0.99),
    )


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


_COLUMNS: tuple[tuple[str, Callable[[Line], str]], ...] = (
    ("instances/s", lambda line: line.rate.words(0)),
    ("node / peer", lambda line: line.ratio.words(2) if line.ratio else ""),
    ("CPU s / 1000", lambda line: line.cpu_per_1000.words(2)),
    ("MB, largest", lambda line: f"{line.largest_mb:.0f}"),
    ("MB, all", lambda line: f"{line.together_mb:.0f}"),
    ("p50 ms", lambda line: "" if line.p50_ms is None else f"{line.p50_ms:.1f}"),
    ("p99 ms", lambda line: "" if line.p99_ms is None else f"{line.p99_ms:.1f}"),
)


def table(lines: list[Line]) -> Table:
    """For a terminal."""
    shown = Table("receiver", title="Receiving: median (least-greatest)", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in _COLUMNS:
        shown.add_column(heading, justify="right")
    before = None
    for line in lines:
        if line.cell != before:
            shown.add_section()
            shown.add_row(f"[bold]{_sent(line.cell)}")
        shown.add_row(SERVERS[line.server].title, *(words(line) for _, words in _COLUMNS))
        before = line.cell
    return shown


def markdown(lines: list[Line], machine: dict[str, str]) -> str:
    """For docs/development/benchmarks.md."""
    rows = [[_sent(line.cell), SERVERS[line.server].title, *(words(line) for _, words in _COLUMNS)] for line in lines]
    return markdown_table(("sent", "receiver", *(heading for heading, _ in _COLUMNS)), rows, machine)


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], machine: dict[str, str]) -> str:
    """A table of docs/development/benchmarks.md below what it was measured on: two columns of words, then numbers."""
    lines = [f"Measured {machine['date']}: " + ", ".join(v for k, v in machine.items() if k != "date") + ".", ""]
    lines += ["| " + " | ".join(headings) + " |", "|---|---|" + "---:|" * (len(headings) - 2)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def as_json(runs: list[Run], machine: dict[str, str], skipped: dict[str, str]) -> dict[str, Any]:
    """Everything, each single run included."""
    return {
        "machine": machine,
        "skipped": skipped,
        "lines": [asdict(line) for line in lines(runs)],
        "runs": [asdict(run) for run in runs],
    }


def machine(folder: Path) -> dict[str, str]:
    """What the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if "model name" in line]
    mounts = [m for m in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(m.mountpoint)]
    disk = max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown file system"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{os.cpu_count()} x {next(iter(models), platform.machine())}",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "disk": disk,
        "load": f"load {os.getloadavg()[0]:.1f} before the first run",
    }


def _sent(cell: Cell) -> str:
    many = "association" if cell.associations == 1 else "associations"
    return f"{cell.kind}, {cell.associations} {many}, {cell.sender}"
