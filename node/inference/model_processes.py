"""The processes that run models: one for each pipeline and what defines it, on each device.

A model may change anything in its process, so no other one runs there, except those of one trust group, which the
operator named. Processes stay while the memory of the machine suffices; the one not used for the longest time makes
room. ``node.inference.infer_stage`` decides how many jobs of a device run at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from node.config import PipelineTable
from node.errors import AdmissionError
from node.inference.device_slots import shares_no_time
from node.inference.memory_admission import RESERVE_MIB, free_mib, loading_mib
from node.inference.model_process import ModelProcess, TaskAborted
from node.inference.sandbox_folder import models
from node.inference.task import CACHES, Reply, Task
from node.outside.caller import goes_outside
from node.process.idle_time import IdleTime
from node.spool.remove_tree import remove_tree

logger = logging.getLogger(__name__)

_CACHE_NAME = 16
"""Characters of a definition that name its cache."""
_CACHE_SECONDS = 86400.0
"""A cache stays this long after the last start of a process: another node may use it."""


class MemoryTaken(TaskAborted):
    """A task in shadow needs memory that processes of what is sent hold; it is tried again later."""


@dataclass
class _ModelProcess:
    worker: ModelProcess
    definition: str
    """See ``definition_of``."""
    in_shadow: bool
    busy: bool = False


class ModelProcesses:
    """Runs tasks on any device. ``run`` is called by one thread at a time for each device, and by one in shadow.

    A pipeline that is both sent and tried, as after a promotion, has a process for each. A task in shadow never shares
    one, whatever the trust group, and ends none of what is sent.
    """

    def __init__(
        self,
        threads: int,
        timeout_seconds: float,
        sandbox_folders: Path,
        tables: Mapping[str, PipelineTable],
        idle_time: IdleTime | None = None,
    ) -> None:
        """``tables``: the configured pipelines; ``sandbox_folders``: best on the file system of the images.

        ``idle_time``: in which processes in shadow compute on a CPU. On a GPU they are killed instead
        (``node.inference.infer_stage``): a process that pauses keeps the memory of the device.
        """
        self._idle_time = idle_time or IdleTime()
        self._threads = threads
        self._timeout = timeout_seconds
        self._sandbox_folders = sandbox_folders
        self._tables = dict(tables)
        self._lock = threading.Lock()
        self._processes: OrderedDict[tuple[str, str], _ModelProcess] = OrderedDict()
        self._closed = False
        remove_old_caches(self._definitions(), time.time())

    def run(self, device: str, task: Task, wanted: Callable[[], bool]) -> Reply:
        """Run a task in the process of its pipeline.

        Raises as ``ModelProcess.run`` does, and ``AdmissionError`` when memory does not suffice although the
        other processes have ended; ``MemoryTaken`` in shadow when processes of what is sent are left. To load a model
        in advance (``load_only``) none is ended.
        """
        process = self._begin(device, task)
        try:
            while True:
                try:
                    return process.worker.run(task, wanted)
                except AdmissionError:
                    if task.load_only or task.alone:
                        raise
                    with self._lock:
                        ended = self._end_oldest(device, task)
                    task = replace(task, alone=not ended)
        finally:
            process.busy = False

    def prepare(self, device: str, task: Task) -> None:
        """Have the series of ``task``, the next to run, decoded by its process if there is one; for any thread."""
        key, tables = self._sharing(device, task)
        with self._lock:
            process = self._processes.get(key)
            if process is None or process.definition != definition_of(tables):
                return
            self._processes.move_to_end(key)
        process.worker.prepare(task)

    def discard(self, device: str, task: Task) -> None:
        """Discard what was prefetched and not taken."""
        with self._lock:
            process = self._processes.get(self._sharing(device, task)[0])
        if process is not None:
            process.worker.discard(task)

    def close(self) -> None:
        """Kill all processes; a running task raises ``TaskAborted``, later ones too."""
        with self._lock:
            self._closed = True
            for process in self._processes.values():
                process.worker.close()

    def _begin(self, device: str, task: Task) -> _ModelProcess:
        with self._lock:
            if self._closed:
                raise TaskAborted("the service stops")
            key, tables = self._sharing(device, task)
            definition = definition_of(tables)
            if key in self._processes and self._processes[key].definition != definition:
                self._end(key)
            if key not in self._processes:
                self._make_room(device, task, tables)
                worker = self._worker(device, tables, definition, in_shadow=task.in_shadow)
                self._processes[key] = _ModelProcess(worker, definition, task.in_shadow)
            self._processes.move_to_end(key)
            self._processes[key].busy = True
            return self._processes[key]

    def _sharing(self, device: str, task: Task) -> tuple[tuple[str, str], dict[str, PipelineTable]]:
        """Key of the process of a task, and the pipelines that it may run."""
        group = task.table.trust_group
        if task.in_shadow:
            return (device, f"pipeline {task.pipeline} in shadow"), {f"{task.pipeline} in shadow": task.table}
        if not group:
            return (device, f"pipeline {task.pipeline}"), {task.pipeline: task.table}
        members = {name: table for name, table in self._tables.items() if table.trust_group == group}
        return (device, f"group {group}"), members | {task.pipeline: task.table}

    def _definitions(self) -> set[str]:
        groups: dict[str, dict[str, PipelineTable]] = {}
        for name, table in self._tables.items():
            group = f"group {table.trust_group}" if table.trust_group else f"pipeline {name}"
            groups.setdefault(group, {})[name] = table
            groups[f"pipeline {name} in shadow"] = {f"{name} in shadow": table}
        return {definition_of(tables) for tables in groups.values()}

    def _worker(
        self, device: str, tables: Mapping[str, PipelineTable], definition: str, *, in_shadow: bool
    ) -> ModelProcess:
        rules, folder = tuple(models(tables.values())), _cache(definition)
        idle_time = IdleTime() if shares_no_time(device) else self._idle_time
        return ModelProcess(
            device,
            self._threads,
            self._timeout,
            self._sandbox_folders,
            rules=rules,
            cache=folder,
            exchange=goes_outside(tables.values()),
            when_idle=idle_time if in_shadow else None,
        )

    def _make_room(self, device: str, task: Task, tables: Mapping[str, PipelineTable]) -> None:
        """End processes until a new one fits; it is started as well when there is no other left to end."""
        need = max((peak.host_mib for peak in task.seen if peak.device == device), default=0.0)
        need = max(need, loading_mib(tables.values())) + RESERVE_MIB
        while (free := free_mib()) < need:
            if task.load_only:
                raise AdmissionError(
                    f"memory: loading it takes about {need:.0f} MiB with a reserve, {free:.0f} MiB are available; "
                    "it is loaded when a job needs it"
                )
            if not self._end_oldest(device, task):
                return

    def _end_oldest(self, device: str, task: Task) -> bool:
        """End the idle process that was not used for the longest time, of ``device`` if it has one.

        Those in shadow end first, even busy ones, and for a task in shadow no other does. Raises ``MemoryTaken`` when
        one of what is sent is left then.
        """
        tried = [key for key, process in self._processes.items() if process.in_shadow]
        idle = [key for key, process in self._processes.items() if not process.busy]
        ends = [key for key in tried if key in idle]
        if not task.in_shadow:
            ends = ends or tried or idle
        if not ends and task.in_shadow and len(tried) < len(self._processes):
            raise MemoryTaken(f"memory: pipeline {task.pipeline} in shadow waits for what other pipelines hold")
        oldest = next((key for key in ends if key[0] == device), *ends[:1] or (None,))
        if oldest is not None:
            logger.info("the process of %s on %s makes room for another one", oldest[1], oldest[0])
            self._end(oldest)
        return oldest is not None

    def _end(self, key: tuple[str, str]) -> None:
        self._processes.pop(key).worker.close()


def definition_of(tables: Mapping[str, PipelineTable]) -> str:
    """Digest of what a process loads: factories, options, and the weights as they are on the disk now."""
    parts = [
        (name, table.factory, sorted(table.options.items()), *_versions(table))
        for name, table in sorted(tables.items())
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _versions(table: PipelineTable) -> Iterator[tuple[str, int, int, int]]:
    """Name, inode, size and time of every file of the weights: one that is replaced is another model."""
    if table.weights is None:
        return
    for path in (table.weights, table.weights.with_suffix(".sha256"), *sorted(table.weights.rglob("*"))):
        try:
            status = path.stat()
        except OSError:  # the factory reports it
            continue
        yield str(path), status.st_ino, status.st_size, status.st_mtime_ns


def _cache(definition: str) -> Path | None:
    """Folder for compiled code, of this definition alone: what one model leaves there is never loaded by another."""
    base = _caches()
    if base is None:
        return None
    folder = base / definition[:_CACHE_NAME]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    return folder


def _caches() -> Path | None:
    base = next((Path(os.environ[name]) for name in CACHES if os.environ.get(name)), None)
    return None if base is None else base / "models"


def remove_old_caches(definitions: Collection[str], at: float) -> None:
    """Remove the folders of definitions that are not among these and had no new process for a day."""
    folder, used = _caches(), {definition[:_CACHE_NAME] for definition in definitions}
    if folder is None or not folder.is_dir():
        return
    for cache in folder.iterdir():
        with suppress(OSError):
            if cache.name not in used and cache.stat().st_mtime < at - _CACHE_SECONDS:
                remove_tree(cache)
                logger.info("removed the compiled code of a model that is no longer configured: %s", cache)
