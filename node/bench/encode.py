"""``ainode bench encode``: results of a CT of 300 x 512 x 512, compared with plain highdicom and dcmqi.

Every encoding runs in a fresh process (``encode_task``), the tools in turn, round after round.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from node.bench.encode_task import prepare
from node.bench.report import Spread, markdown_table
from node.errors import PlatformError

TITLES = {"node": "this node", "highdicom": "highdicom, label array", "dcmqi": "dcmqi itkimage2segimage"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is encoded."""

    objects: str
    """Kinds of objects, joined by ``+``."""
    segments: int
    tools: tuple[str, ...] = ("node",)

    @property
    def title(self) -> str:
        return f"{self.objects.replace('+', ', ')}; {self.segments} segments"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One tool, once."""

    cell: Cell
    tool: str
    seconds: float
    cpu_seconds: float
    size: int
    """Bytes."""
    peak_mb: float


CELLS = (
    Cell(objects="seg", segments=2, tools=tuple(TITLES)),
    Cell(objects="seg", segments=20, tools=tuple(TITLES)),
    *(Cell(objects=objects, segments=2) for objects in ("sr alone", "key images", "pdf", "sr alone+key images+pdf")),
)
SHAPE = (300, 512, 512)


def tools_here() -> tuple[str, ...]:
    """Those of ``TITLES`` that can be run: dcmqi is a program of its own."""
    return tuple(tool for tool in TITLES if tool != "dcmqi" or shutil.which("itkimage2segimage"))


def run(folder: Path, rounds: int, shape: tuple[int, int, int] = SHAPE) -> Iterator[Run]:
    """Measure. Raises ``PlatformError`` when a tool fails."""
    here = tools_here()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as name:
        for segments in sorted({cell.segments for cell in CELLS}):
            prepare(Path(name), shape, segments)
        for cell in CELLS:
            for _ in range(rounds):
                for tool in cell.tools:
                    if tool in here:
                        yield _run(cell, tool, Path(name))


def _run(cell: Cell, tool: str, folder: Path) -> Run:
    command = [sys.executable, "-m", "node.bench.encode_task", tool, cell.objects, str(cell.segments), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlatformError(f"{TITLES[tool]} cannot encode {cell.title}: {done.stderr[-500:]}")
    return Run(cell=cell, tool=tool, **json.loads(done.stdout))


def rows(runs: list[Run]) -> list[list[str]]:
    """Cells of the table: what, by whom, CPU seconds, our CPU seconds divided by its, seconds, peak MB, MB written."""
    groups: dict[tuple[Cell, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.cell, run.tool), []).append(run)
    return [_row(group, groups[cell, "node"]) for (cell, _), group in groups.items()]


HEADINGS = ("objects", "by", "CPU s", "node / it", "s", "peak MB", "MB written")


def _row(group: list[Run], ours: list[Run]) -> list[str]:
    first = group[0]
    pairs = zip(ours, group, strict=True)
    ratio = "" if first.tool == "node" else Spread.of([a.cpu_seconds / b.cpu_seconds for a, b in pairs]).words(2)
    return [
        first.cell.title,
        TITLES[first.tool],
        Spread.of([run.cpu_seconds for run in group]).words(2),
        ratio,
        Spread.of([run.seconds for run in group]).words(2),
        f"{max(run.peak_mb for run in group):.0f}",
        f"{first.size / 1e6:.1f}",
    ]


def table(runs: list[Run]) -> Table:
    """For a terminal."""
    shown = Table(*HEADINGS, title="Encoding: median (least-greatest)", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows(runs):
        shown.add_row(*row)
    return shown


def markdown(runs: list[Run], machine: dict[str, str]) -> str:
    """For docs/development/benchmarks.md."""
    return markdown_table(HEADINGS, rows(runs), machine)
