"""What the node adds to the time of a network: the stages of a study around a pipeline that only sleeps.

Computing time is that of all processes of the node, which other load of the machine changes little. Reception and
delivery are not in it: they are measured by ``ainode bench receive``, or depend on the destination.
"""

from __future__ import annotations

import logging
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless
from rich import box
from rich.table import Table

from node.bench.report import Spread, markdown_table
from node.bench.sleeper import FACTORY
from node.config import DEFAULT_OBJECTS, PipelineTable, Rule
from node.inference.device_slots import JOBS_ON_GPU, DeviceSlots
from node.inference.encode_process import EncodeProcess
from node.inference.encode_task import EncodeTask, ImageFile
from node.inference.model_processes import ModelProcesses
from node.inference.task import Task
from node.routing.examiner import Examiner
from node.routing.rules import Origin
from node.routing.series_examination import SeriesQuestion
from node.spool import Spool
from node.studies.header import read_header

LIMIT_SECONDS = 600.0
SYNTAXES = ("uncompressed", "JPEG 2000")
HEADINGS = ("series", "measured", "CPU s", "s")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stage, or a number of waiting studies, on one series."""

    series: str
    measured: str
    cpu_seconds: tuple[float, ...]
    """For each study."""
    seconds: tuple[float, ...]
    """For each study."""
    busy: float | None = None
    """Share of the time in which the device was busy, 0 to 1."""

    def cells(self) -> tuple[str, ...]:
        """As a line of the table: median (least-greatest)."""
        busy = "" if self.busy is None else f", device busy {self.busy:.0%}"
        words = (Spread.of(list(values)).words(2) for values in (self.cpu_seconds, self.seconds))
        return (self.series, self.measured + busy, *words)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    network_seconds: float
    studies: int
    """That wait, for each number of jobs in flight."""
    jobs: tuple[int, ...]
    """Numbers of jobs in flight."""
    rounds: int
    threads: int


def measure(plan: Plan, images: Sequence[Path], folder: Path) -> Iterator[Line]:
    """Measure each stage alone, then many studies, on the uncompressed CT ``images`` and on them compressed.

    Temporary files are below ``folder``.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as name:
        for syntax in SYNTAXES:
            bench = _Bench(plan, images, Path(name) / syntax, compressed=syntax != SYNTAXES[0])
            try:
                yield from bench.stages(syntax)
                for jobs in plan.jobs:
                    yield bench.waiting(syntax, jobs)
            finally:
                bench.close()


class _Bench:
    """A spool with one series, and the processes of the stages."""

    def __init__(self, plan: Plan, images: Sequence[Path], folder: Path, *, compressed: bool) -> None:
        self._plan = plan
        self._spool = Spool(folder)
        self._images = tuple(folder / path.name for path in images)
        logging.getLogger("openjpeg").setLevel(logging.WARNING)  # it logs every image
        for original, path in zip(images, self._images, strict=True):
            image = dcmread(original)
            if compressed:
                image.compress(JPEG2000Lossless, generate_instance_uid=False)
            image.save_as(path)
        self._first = read_header(self._images[0])
        self._table = PipelineTable(factory=FACTORY, options={"seconds": plan.network_seconds})
        self._processes = ModelProcesses(plan.threads, LIMIT_SECONDS, self._spool.sandbox_folders, {})
        self._encoder = EncodeProcess(self._spool, LIMIT_SECONDS)
        rule = Rule(name="chest", pipelines=("sleeper",), match={"Modality": "CT"}, destinations=("pacs",))
        self._examiner = Examiner(self._spool, [rule])
        self._studies = 0

    def close(self) -> None:
        self._processes.close()
        self._encoder.close()

    def stages(self, series: str) -> Iterator[Line]:
        """Each stage alone, one study after another; a first one starts the processes."""
        figures: dict[str, list[_Used]] = {}
        for number in range(self._plan.rounds + 1):
            task = self._task()
            steps: dict[str, Callable[[], None]] = {
                "headers for the rules": partial(self._examine, task),
                "read, decode, hand over": partial(self._infer, task),
                "encode, gate, store": partial(self._encode, task),
            }
            whole = _Used(seconds=-self._plan.network_seconds)
            for name, step in steps.items():
                with _clock() as used:
                    step()
                whole.cpu_seconds += used.cpu_seconds
                whole.seconds += used.seconds
                if number:
                    figures.setdefault(name, []).append(used)
            if number:
                figures.setdefault("all, without the network", []).append(whole)
        for name, of in figures.items():
            cpu, seconds = tuple(usage.cpu_seconds for usage in of), tuple(usage.seconds for usage in of)
            yield Line(series=series, measured=name, cpu_seconds=cpu, seconds=seconds)

    def waiting(self, series: str, jobs: int) -> Line:
        """Many studies wait; ``jobs`` are in flight: one has the device, the next is decoded, others are encoded."""
        studies: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for _ in range(self._plan.studies):
            studies.put(self._task())
        slots, on_device = DeviceSlots(["cpu"]), threading.Semaphore(JOBS_ON_GPU)
        with _clock() as used, ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(self._work, studies, slots, on_device) for _ in range(jobs)]:
                done.result()
        network = self._plan.network_seconds * self._plan.studies
        return Line(
            series=series,
            measured=f"{self._plan.studies} waiting, {jobs} in flight",
            cpu_seconds=(used.cpu_seconds / self._plan.studies,),
            seconds=(used.seconds / self._plan.studies,),
            busy=network / used.seconds,
        )

    def _work(self, studies: queue.SimpleQueue[Task], slots: DeviceSlots, on_device: threading.Semaphore) -> None:
        with suppress(queue.Empty):
            while True:
                task = studies.get_nowait()
                self._examine(task)
                with on_device, slots.chosen() as (device, is_busy):
                    if is_busy:
                        self._processes.prepare(device, task)
                    with slots.running(device):
                        self._infer(task)
                self._encode(task)

    def _task(self) -> Task:
        """Return the task of a job with files of its own: the same bytes under other names."""
        self._studies += 1
        job = f"bench-{self._studies}"
        folder = self._spool.folder / "incoming" / job
        folder.mkdir()
        paths = tuple(folder / path.name for path in self._images)
        for image, path in zip(self._images, paths, strict=True):
            os.link(image, path)
        return Task(job_id=job, pipeline="sleeper", table=self._table, paths=paths, folder=self._spool.work(job))

    def _examine(self, task: Task) -> None:
        question = SeriesQuestion(paths=task.paths, origin=Origin())
        self._examiner.examine((task.job_id, task.job_id), question, time.time())

    def _infer(self, task: Task) -> None:
        self._encoder.prepare(task.job_id, task.paths)
        self._processes.run("cpu", task, lambda: True)

    def _encode(self, task: Task) -> None:
        first = self._first
        self._encoder.analysis(
            EncodeTask(
                languages=("en",),
                job_id=task.job_id,
                study_instance_uid=first.StudyInstanceUID,
                series_instance_uid=first.SeriesInstanceUID,
                images=tuple(
                    ImageFile(
                        path=path, sop_class_uid=first.SOPClassUID, sop_instance_uid=path.stem, modality=first.Modality
                    )
                    for path in task.paths
                ),
                pipeline="sleeper",
                title="Sleeper",
                generation=1,
                outcome="findings",
                reason="",
                incomplete="",
                caveat="",
                created_at=time.time(),
                salt="bench",
                kinds=frozenset(DEFAULT_OBJECTS),
                profiles=(),
                previous=(),
                handover=task.folder,
                out=task.folder,
            )
        )


@dataclass
class _Used:
    cpu_seconds: float = 0.0
    seconds: float = 0.0


@contextmanager
def _clock() -> Iterator[_Used]:
    """Time and computing time of this process and all that it started, while the context lasts."""
    used, cpu, at = _Used(), _cpu_seconds(), time.perf_counter()
    yield used
    used.seconds, used.cpu_seconds = time.perf_counter() - at, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    own = psutil.Process()
    seconds = 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            seconds += sum(process.cpu_times()[:4])
    return seconds


def table(lines: Sequence[Line]) -> Table:
    """For the terminal."""
    grid = Table(*HEADINGS, box=box.SIMPLE)
    for line in lines:
        grid.add_row(*line.cells())
    return grid


def markdown(lines: Sequence[Line], machine: dict[str, str]) -> str:
    """For docs/development/benchmarks.md."""
    return markdown_table(HEADINGS, [line.cells() for line in lines], machine)
