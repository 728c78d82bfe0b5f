"""Processes of models, and an encoder, that nodes of several tests use one after the other, as one does for its jobs.

For tests of what becomes of a result: a process that is started costs more computing than they do.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import standing_processes

from node.errors import ConfigError, PipelineError
from node.inference import model_processes, pipeline_process
from node.inference.model_process import ModelProcess, TaskAborted
from node.inference.task import Reply, Task
from node.isolation import READ

Idle = list[ModelProcess]
ENCODER = "encoder"


class StandingModels:
    """Processes that no node uses now, by all that they were started with.

    They read models below ``readable``, as those of one trust group read each other's.
    """

    def __init__(self, readable: Path, ends: ExitStack) -> None:
        self._readable = readable
        self._sandboxes = readable / "sandboxes"
        self._ends = ends
        self._idle: dict[str, Idle] = defaultdict(list)

    def lent(self, device: str, threads: int, seconds: float, _sandboxes: Path, **options: Any) -> Any:
        """A process for one node; one in shadow, or that calls outside, is the node's own."""
        if options.get("when_idle") is not None or options["exchange"]:
            return ModelProcess(device, threads, seconds, _sandboxes, **options)
        elsewhere = (rule for rule in options.get("rules", ()) if not rule[0].is_relative_to(self._readable))
        options["rules"] = (*elsewhere, (self._readable, READ))
        idle = self._idle[repr((device, threads, seconds, options))]
        if not idle:
            idle.append(ModelProcess(device, threads, seconds, self._sandboxes, **options))
            self._ends.callback(idle[-1].close)
        return LentModel(idle.pop(), idle)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Nodes use them meanwhile, and the encoder that is everybody's."""
        with pytest.MonkeyPatch.context() as patch:
            for module in (model_processes, pipeline_process):
                patch.setattr(module, "ModelProcess", self.lent)
            patch.setattr(standing_processes, "SHARED", standing_processes.SHARED | {ENCODER})
            yield


class LentModel:
    """A process as one node has it, which gives it back unless it computes then."""

    def __init__(self, process: ModelProcess, idle: Idle) -> None:
        self._process = process
        self._idle = idle
        self._lock = threading.Lock()
        self._computes = False
        self._closed = False

    def run(self, task: Task, wanted: Callable[[], bool]) -> Reply:
        with self._lock:
            if self._closed:
                raise TaskAborted("the service stops")
            self._computes = True
        try:
            reply = self._process.run(task, wanted)  # after any other error the process is not lent again
        except (ConfigError, PipelineError):  # of a model: one that ended the process gives the next task another
            self._computes = False
            raise
        self._computes = False
        return reply

    def prepare(self, task: Task) -> None:
        self._computes = True
        self._process.prepare(task)

    def discard(self, task: Task) -> None:
        self._process.discard(task)

    def close(self) -> None:
        with self._lock:
            closed, self._closed = self._closed, True
        if self._computes:
            self._process.close()
        elif not closed:
            self._idle.append(self._process)
