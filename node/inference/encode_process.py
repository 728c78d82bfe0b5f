"""EncodeProcess: gives tasks to the confined process that encodes, and stores the objects that it returns.

Headers of received files, findings of models and objects of archives are parsed there only: without network, in bounded
memory and time, and with no other files than those of the task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from node.confined import Bounds, ConfinedProcess
from node.errors import GateError, NodeError
from node.inference.encode_calls import encode_analysis, encode_failure, encode_note, read_ahead, read_embeddings
from node.inference.encode_task import EncodedEmbeddings, EncodedFile, EncodeTask, Encoding, NoteTask
from node.inference.result_storage import Subject, store_result
from node.inference.sandbox_folder import SandboxFolder, linked
from node.ledger.jobs import Job
from node.process.idle_time import TIMES_SLOWER, IdleTime
from node.spool import Spool
from node.spool.remove_tree import remove_tree

NOTE_SECONDS = 300.0
"""Longest time for a rejection note."""
_LEAST_MEMORY_MIB = 4096
_SHARE_OF_MEMORY = 0.5
"""Of the machine, for the process, which is also the first to go when memory runs out."""
_MOST_AHEAD = 2000
"""Images of a series that is read ahead; headers of so many take 0.1 to 0.3 GB."""
_TASKS = 100
"""After this many the process is replaced: whatever a file did to it ends."""

Row = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class _Folders:
    """Folders of one task."""

    inside: Path
    out: Path


class EncodeProcess:
    """One confined process that encodes; any thread may call, and one task runs at a time."""

    def __init__(self, spool: Spool, seconds: float, *, when_idle: IdleTime | None = None) -> None:
        """``seconds``: longest time of one task. ``when_idle``: it pauses while this time is taken."""
        memory = int(psutil.virtual_memory().total * _SHARE_OF_MEMORY) >> 20
        self._bounds = Bounds(
            memory_mib=max(_LEAST_MEMORY_MIB, memory),
            cpu_seconds=max(1, int(seconds)),
            wall_seconds=seconds * (1.0 if when_idle is None else TIMES_SLOWER),
        )
        self._spool = spool
        self._when_idle = when_idle
        self._turn = threading.Lock()
        self._sandbox: SandboxFolder | None = None
        self._process: ConfinedProcess | None = None
        self._tasks = 0

    def analysis(self, task: EncodeTask) -> tuple[Encoding, list[Row]]:
        """Encode an analysis and store its objects.

        Raises as ``encode_analysis``, as ``ConfinedProcess.call``, and ``GateError`` as ``Subject`` does.
        """
        return self._encode(encode_analysis, task)

    def prepare(self, job_id: str, images: tuple[Path, ...]) -> None:
        """Begin to read the files of a series that is encoded soon, unless the process is busy; any thread may call.

        What cannot be read is met again by ``analysis``, which says so. A very large series would take its memory.
        """
        if len(images) > _MOST_AHEAD:
            return
        threading.Thread(target=self._prepare, args=(job_id, images), name="read ahead", daemon=True).start()

    def embeddings(self, task: EncodeTask) -> EncodedEmbeddings | None:
        """Read the embeddings of an analysis before it is encoded; raises as ``analysis``."""
        with self._task(task.job_id) as (process, folders):
            about = f"embeddings of series {task.series_instance_uid}"
            return process.call(about, read_embeddings, _linked(task, folders))

    def failure(self, task: EncodeTask) -> tuple[Encoding, list[Row]]:
        """Encode the report of a failure from UIDs and identity alone; raises as ``analysis``."""
        return self._encode(encode_failure, task)

    def note(
        self, job: Job, results: Sequence[Path], *, salt: str, reason: str, stated: str = "", replaced_at: str = ""
    ) -> Row:
        """Encode and store a rejection note of a job; see ``NoteTask``."""
        with self._task(job.id) as (process, folders):
            task = NoteTask(
                pipeline=job.pipeline,
                generation=job.generation,
                reason=reason,
                stated=stated,
                replaced_at=replaced_at,
                salt=salt,
                results=linked(tuple(results), folders.inside / "results"),
                out=folders.out,
            )
            encoded = process.call(f"rejection note of job {job.id}", encode_note, task)
            subject = Subject(
                study_instance_uid=job.study_instance_uid,
                images=tuple(results),
                taken={path.stem for path in results},
            )
            return self._store(job.id, folders.out, [encoded], subject)[0]

    def interrupt(self) -> None:
        """Kill the process without waiting for its task, which then fails."""
        if (process := self._process) is not None:
            process.interrupt()

    def close(self) -> None:
        """End the process and remove its folder; a later task starts another."""
        with self._turn:
            self._end()

    def _prepare(self, job_id: str, images: tuple[Path, ...]) -> None:
        if not self._turn.acquire(blocking=False):
            return
        try:
            with suppress(NodeError), self._using(job_id) as (process, folders):
                process.call(f"series of job {job_id}", read_ahead, linked(images, folders.inside / "series"))
        finally:
            self._turn.release()

    def _encode(self, function: Callable[[EncodeTask], Encoding], task: EncodeTask) -> tuple[Encoding, list[Row]]:
        with self._task(task.job_id) as (process, folders):
            about = f"series {task.series_instance_uid}"
            encoding = process.call(about, function, _linked(task, folders))
            subject = Subject(
                study_instance_uid=task.study_instance_uid,
                images=tuple(image.path for image in task.images),
                taken={task.series_instance_uid, *(image.sop_instance_uid for image in task.images)},
            )
            return encoding, self._store(task.job_id, folders.out, encoding.files, subject)

    def _store(self, job_id: str, out: Path, files: Iterable[EncodedFile], subject: Subject) -> list[Row]:
        rows = []
        for encoded in files:
            if not encoded.name or Path(encoded.name).name != encoded.name:
                raise GateError(f"encoded object {encoded.name!r} is not in its folder")
            rows.append(store_result(self._spool, job_id, out / encoded.name, encoded, subject))
        return rows

    @contextmanager
    def _task(self, job_id: str) -> Iterator[tuple[ConfinedProcess, _Folders]]:
        """The process and empty folders for a task; after an error the process is replaced."""
        with self._turn:
            self._tasks += 1  # reading ahead is part of one
            if self._tasks > _TASKS:
                self._end()
            with self._using(job_id) as using:
                yield using

    @contextmanager
    def _using(self, job_id: str) -> Iterator[tuple[ConfinedProcess, _Folders]]:
        process, sandbox = self._ready()
        folders = _Folders(inside=sandbox.inside / job_id, out=sandbox.out / job_id)
        for folder in (folders.inside, folders.out):
            folder.mkdir()
        try:
            yield process, folders
        except BaseException:
            process.close()
            raise
        finally:
            for folder in (folders.inside, folders.out):
                remove_tree(folder)

    def _ready(self) -> tuple[ConfinedProcess, SandboxFolder]:
        if self._process is None or self._sandbox is None:
            self._sandbox = SandboxFolder(self._spool.sandbox_folders)
            self._process = ConfinedProcess(
                "encoder",
                readable=[self._sandbox.inside],
                writable=[self._sandbox.out],
                bounds=self._bounds,
                when_idle=self._when_idle,
            )
        return self._process, self._sandbox

    def _end(self) -> None:
        process, self._process = self._process, None
        sandbox, self._sandbox = self._sandbox, None
        self._tasks = 0
        if process is not None:
            process.close()
        if sandbox is not None:
            sandbox.close()


def _linked(task: EncodeTask, folders: _Folders) -> EncodeTask:
    """Return the task with the paths that the process sees."""
    paths = linked(tuple(image.path for image in task.images), folders.inside / "series")
    handover = folders.inside / "handover"
    if task.handover.is_dir():
        linked(tuple(path for path in task.handover.iterdir() if path.is_file()), handover)
    return replace(
        task,
        images=tuple(replace(image, path=path) for image, path in zip(task.images, paths, strict=True)),
        previous=tuple(
            replace(files, paths=_by_kind(files.paths, folders.inside / f"previous {number}"))
            for number, files in enumerate(task.previous)
        ),
        handover=handover,
        out=folders.out,
    )


def _by_kind(files: dict[str, Path], folder: Path) -> dict[str, Path]:
    return dict(zip(files, linked(tuple(files.values()), folder), strict=True))
