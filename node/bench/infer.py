"""Times from files to findings: each pipeline in a worker's child process, as jobs run it, on one device."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from node.config import PipelineTable
from node.inference.model_processes import ModelProcesses
from node.inference.task import Reply, Task
from node.outcome import Outcome
from node.studies.folder import series_below

LIMIT_SECONDS = 1800.0
_COLUMNS = (
    "Pipeline", "Images", "Outcome", "Seconds", "Aim", "Images/s", "Read s", "Run s", "MiB host", "MiB device",
)  # fmt: skip
AIM_MIB = 3072.0
"""Most memory that an analysis should take on the host."""


def aim_seconds(pipeline: str, device: str, images: int) -> float | None:
    """What is aimed at from files to findings, on two processor cores or one GPU; ``None``: nothing was set."""
    whole = images / 300  # the aims are for 300 slices of 512 x 512
    if device == "cpu":
        return {"nodule": 30.0 * max(whole, 1.0), "tumor": 4.0 if images <= 24 else 10.0, "denoise": 45.0 * whole}.get(
            pipeline
        )
    return {"nodule": 2.0 * max(whole, 1.0), "denoise": whole}.get(pipeline)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One pipeline on one series, the model loaded before."""

    pipeline: str
    device: str
    images: int
    outcome: str
    load_seconds: float
    seconds: tuple[float, ...]
    """From files to the handover on disk, each round."""
    read_seconds: float
    """Headers only, in the last round; voxels are decoded during the run."""
    run_seconds: float
    host_mib: float
    device_mib: float | None

    def cells(self) -> tuple[str, ...]:
        """As a line of the table; medians over the rounds."""
        median = statistics.median(self.seconds)
        aim = aim_seconds(self.pipeline, self.device, self.images)
        return (
            self.pipeline,
            str(self.images),
            self.outcome,
            f"{median:.2f} ({min(self.seconds):.2f}-{max(self.seconds):.2f})",
            "" if aim is None else f"{aim:g}, {'met' if median <= aim else 'missed'}",
            f"{self.images / median:.1f}",
            f"{self.read_seconds:.2f}",
            f"{self.run_seconds:.2f}",
            f"{self.host_mib:.0f}",
            "" if self.device_mib is None else f"{self.device_mib:.0f}",
        )


def measure(pipelines: Sequence[str], folder: Path, *, device: str, threads: int, rounds: int) -> Iterator[Timed]:
    """Run every pipeline on every series below ``folder`` that it applies to, ``rounds`` times after a first one.

    Raises ``NotFoundError`` when there is no DICOM file, and what the pipelines raise.
    """
    series, _ = series_below([folder], lambda _text, _done, _of: None)
    with tempfile.TemporaryDirectory() as name:
        processes = ModelProcesses(threads, LIMIT_SECONDS, Path(name) / "trays", {})
        try:
            for pipeline in pipelines:
                for paths in series.values():
                    task = Task(
                        job_id="bench",
                        pipeline=pipeline,
                        table=PipelineTable(),
                        paths=tuple(paths),
                        folder=Path(name) / "out",
                    )
                    replies = [processes.run(device, task, lambda: True)]
                    if replies[0].outcome != Outcome.NOT_APPLICABLE:
                        replies += [processes.run(device, task, lambda: True) for _ in range(rounds)]
                        yield _timed(pipeline, device, len(paths), replies)
        finally:
            processes.close()


def _timed(name: str, device: str, images: int, replies: Sequence[Reply]) -> Timed:
    last = replies[-1]
    return Timed(
        pipeline=name,
        device=device,
        images=images,
        outcome=last.outcome,
        load_seconds=replies[0].timings["load"],
        seconds=tuple(sum(reply.timings.values()) for reply in replies[1:]),
        read_seconds=last.timings["read"],
        run_seconds=last.timings["run"],
        host_mib=max(reply.peak_memory_mib["host"] for reply in replies),
        device_mib=last.peak_memory_mib.get("device"),
    )


def table(lines: Sequence[Timed]) -> Table:
    """For the terminal."""
    grid = Table(*_COLUMNS, box=box.SIMPLE)
    for line in lines:
        grid.add_row(*line.cells())
    return grid


def markdown(lines: Sequence[Timed], device: str, machine: dict[str, str]) -> str:
    """A page of its own, docs/development/gpu.md when ``device`` is a GPU."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(line.cells() for line in lines)]
    measured = (
        f"Measured {machine['date']} on {device}: {machine['processor']}, {machine['system']}, {machine['load']}."
    )
    shown = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    most = max((line.host_mib for line in lines), default=0.0)
    memory = f"At most {most:.0f} MiB of host memory (aim: {AIM_MIB:.0f}, {'met' if most <= AIM_MIB else 'missed'})."
    head = f"# Inference on {device}\n\nFrom files to findings, the model loaded before. {measured}"
    return f"{head}\n\n{shown}\n\n{memory}\n"
