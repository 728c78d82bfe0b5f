"""Turns: which pipeline's attempt this process takes next, when one of its slots is free.

The most urgent first; of equally urgent ones that of the pipeline whose last turn was longest ago, so that pipelines
share the devices in turn, however many jobs of each wait. A pipeline whose jobs fail one after the other gets a turn
only after a pause (``node.ledger.pipeline_failures``). Until its turn an attempt stays in its queue: any process may
take it, a more urgent one of the same pipeline overtakes it, and no time limit runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from node.jobs.ledger_writes import AttemptAbandoned
from node.jobs.queues import LocalQueue

logger = logging.getLogger(__name__)

Waiting = Mapping[str, Counter[int]]
"""Pipeline -> priority -> attempts that wait for a turn."""

_LOOK_SECONDS = 0.5
_TAKING_SECONDS = 5.0
"""An attempt that is not taken within this time loses its turn."""
_TAKEN_SECONDS = 1.0
"""The same, when none waits any more: another process took it, unless this one is about to begin it."""


def next_pipeline(waiting: Waiting, last_turns: Mapping[str, int]) -> tuple[str, int] | None:
    """The pipeline whose turn it is, and the priority of its attempt; ``None`` when nothing waits.

    ``last_turns``: the number of the last turn of each pipeline; without one it had none.
    """
    urgent = {name: min(priority for priority in of if of[priority] > 0) for name, of in waiting.items() if +of}
    if not urgent:
        return None
    name = min(urgent, key=lambda name: (urgent[name], last_turns.get(name, 0), name))
    return name, urgent[name]


@dataclass
class _PipelineTurns:
    """What one pipeline does in this process."""

    queue: LocalQueue
    taken: int = 0
    """Attempts that this process has taken and not ended."""
    turns: list[float] = field(default_factory=list)
    """When turns were given to it that no attempt has taken yet, in seconds of the monotonic clock."""

    def allow(self) -> None:
        self.queue.allow(self.taken + len(self.turns))


class Turns:
    """The slots of one process, shared by its pipelines. ``turn`` may be called by any thread."""

    def __init__(
        self,
        queues: Mapping[str, LocalQueue],
        slots: int,
        waiting: Callable[[], Waiting],
        stopping: threading.Event,
    ) -> None:
        """``waiting``: reads which attempts may have a turn now. ``stopping``: this process ends; no more turns."""
        self._pipelines = {name: _PipelineTurns(queue) for name, queue in queues.items()}
        self._slots = slots
        self._waiting = waiting
        self._stopping = stopping
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._changed = threading.Event()
        self._executing = 0
        self._last_turns: dict[str, int] = {}
        self._number = 0

    @contextmanager
    def turn(self, pipeline: str) -> Iterator[None]:
        """Occupy a slot while an attempt of ``pipeline`` is executed.

        DBOS may take one attempt too many, because it counts them as late as they begin: that one waits for a slot.
        Raises ``AttemptAbandoned`` when this process ends meanwhile.
        """
        its = self._pipelines[pipeline]
        with self._lock:
            its.taken += 1
            if its.turns:
                its.turns.pop(0)
        try:
            self._occupy()
            try:
                yield
            finally:
                with self._lock:
                    self._executing -= 1
                    self._ended.notify()
        finally:
            with self._lock:
                its.taken -= 1
                its.allow()
            self._changed.set()

    def _occupy(self) -> None:
        with self._lock:
            while self._executing >= self._slots:
                if self._stopping.is_set():
                    raise AttemptAbandoned
                self._ended.wait(_LOOK_SECONDS)
            self._executing += 1

    def give(self) -> None:
        """Give the free slots to the pipelines whose turn it is."""
        with self._lock:
            if self._free() <= 0 and not any(its.turns for its in self._pipelines.values()):
                return
        waiting = {name: Counter(of) for name, of in self._waiting().items()}
        at = time.monotonic()
        with self._lock:
            for name, its in self._pipelines.items():
                self._withdraw(name, its, waiting, at)
            while self._free() > 0 and (chosen := next_pipeline(waiting, self._last_turns)) is not None:
                name, priority = chosen
                waiting[name][priority] -= 1
                self._pipelines[name].turns.append(at)
                self._pipelines[name].allow()
                self._number += 1
                self._last_turns[name] = self._number

    def run(self, seconds: float) -> None:
        """Give turns until this process ends: when a slot gets free, and at least this often."""
        while not self._stopping.is_set():
            try:
                self.give()
            except Exception as error:  # noqa: BLE001 - the actor's own loop
                logger.warning("jobs: turns were not given (%s); trying again", error)
                self._stopping.wait(seconds)
            self._changed.wait(seconds)
            self._changed.clear()

    def _withdraw(self, name: str, its: _PipelineTurns, waiting: dict[str, Counter[int]], at: float) -> None:
        """Take back turns that no attempt took, and leave those that are about to be taken out of ``waiting``."""
        left = waiting.get(name, Counter())
        patience = _TAKING_SECONDS if +left else _TAKEN_SECONDS
        its.turns = [since for since in its.turns if at - since < patience]
        for _ in its.turns:
            if +left:
                left[min(+left)] -= 1
        its.allow()

    def _free(self) -> int:
        return self._slots - sum(its.taken + len(its.turns) for its in self._pipelines.values())
