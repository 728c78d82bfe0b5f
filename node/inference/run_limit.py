"""How long a task may take in the process of its pipeline, and how often the worker looks at it meanwhile."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from node.errors import PipelineError
from node.inference.device_slots import shares_no_time
from node.inference.task import Task
from node.process.idle_time import TIMES_SLOWER, IdleTime

_LOOK_SECONDS = 0.5
"""Between two looks at the clock and at whether the job is still wanted."""
_LOOK_SECONDS_IN_SHADOW_ON_GPU = 0.1
"""Another job waits for the GPU meanwhile."""


class RunLimit:
    """Limit of one process. What computes in idle time has longer, and the time in which it pauses does not count."""

    def __init__(self, device: str, seconds: float, when_idle: IdleTime | None) -> None:
        self._configured = seconds
        self._when_idle = when_idle
        self.seconds = seconds * (1.0 if when_idle is None else TIMES_SLOWER)
        yields = when_idle is not None and shares_no_time(device)
        self.look_seconds = _LOOK_SECONDS_IN_SHADOW_ON_GPU if yields else _LOOK_SECONDS

    def deadline(self) -> float:
        """Of a task that begins now."""
        return self._clock() + self.seconds

    def pausing(self, pid: int) -> AbstractContextManager[None]:
        """While a task runs: the process pauses if it has to."""
        return nullcontext() if self._when_idle is None else self._when_idle.used_by(pid)

    def look(self, task: Task, deadline: float) -> None:
        """Raise ``PipelineError`` after the deadline."""
        if self._when_idle is not None:
            self._when_idle.look()
        if self._clock() <= deadline:
            return
        if task.load_only:
            raise PipelineError(f"pipeline {task.pipeline!r} is not loaded after {self.seconds:g} s and was killed")
        times = "" if self._when_idle is None else f"{TIMES_SLOWER:g} times "
        limit = f"{times}[jobs] run_timeout_seconds = {self._configured:g}"
        raise PipelineError(f"pipeline {task.pipeline!r} ran longer than {limit} and was killed")

    def _clock(self) -> float:
        return time.monotonic() - (0.0 if self._when_idle is None else self._when_idle.taken_seconds())
