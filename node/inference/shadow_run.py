"""Running a task in shadow: in the time of a CPU that nobody else wants, on a GPU until another job begins there."""

from __future__ import annotations

import time
from collections.abc import Callable

from node.inference.device_slots import DeviceSlots, shares_no_time
from node.inference.model_process import TaskAborted
from node.inference.model_processes import MemoryTaken, ModelProcesses
from node.inference.task import Reply, Task
from node.jobs.stage import AttemptYielded
from node.process.idle_time import IdleTime

_LOOK_SECONDS = 0.5
"""Between two looks at whether the job is still wanted; at its device it looks more often."""
_MEMORY_SECONDS = 60.0
"""Between two attempts that do not get their memory."""


class ShadowRun:
    """Runs tasks in shadow; any thread may call."""

    def __init__(
        self, processes: ModelProcesses, slots: DeviceSlots, idle_time: IdleTime, is_wanted: Callable[[str], bool]
    ) -> None:
        """``is_wanted``: whether a job has neither ended nor been cancelled."""
        self._processes = processes
        self._slots = slots
        self._idle_time = idle_time
        self._is_wanted = is_wanted

    def run(self, device: str, task: Task) -> Reply:
        """Run a task. Raises ``AttemptYielded`` when others need its device or its memory, or this process ends."""
        withdrawals, asked = self._idle_time.withdrawals, time.monotonic()

        def wanted() -> bool:
            nonlocal asked
            if self._idle_time.withdrawals > withdrawals or (shares_no_time(device) and self._slots.is_needed(device)):
                return False
            if time.monotonic() - asked < _LOOK_SECONDS:
                return True
            asked = time.monotonic()
            return self._is_wanted(task.job_id)

        if not wanted():  # it began while this one waited for the device
            raise AttemptYielded(f"job {task.job_id} in shadow yields the device {device}")
        try:
            return self._processes.run(device, task, wanted)
        except MemoryTaken as taken:
            raise AttemptYielded(str(taken), _MEMORY_SECONDS) from taken
        except TaskAborted as aborted:
            if not self._is_wanted(task.job_id):
                raise
            raise AttemptYielded(f"job {task.job_id} in shadow yields the device {device}") from aborted
