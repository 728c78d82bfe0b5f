"""Slots of the devices of one worker: how many jobs each has at once, and which device a job gets."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

from node.jobs.stage import AttemptYielded

JOBS_ON_GPU = 2
"""One runs and the next is decoded. With more, what is decoded would be dropped (``MOST`` in ``prefetch``)."""


class DeviceSlots:
    """Shared by the threads of a worker."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._running = {name: threading.Lock() for name in devices}
        self._running_in_shadow = {name: threading.Lock() for name in self._running}
        self._jobs = dict.fromkeys(self._running, 0)
        self._in_shadow = dict.fromkeys(self._running, 0)
        self._choosing = threading.Lock()

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices."""
        return tuple(self._running)

    @property
    def number(self) -> int:
        """Jobs at once. On a CPU one: a second would only take cores from the first."""
        return sum(JOBS_ON_GPU if shares_no_time(device) else 1 for device in self._running)

    @contextmanager
    def chosen(self) -> Iterator[tuple[str, bool]]:
        """The device with the fewest jobs, of these one without a job in shadow; whether it has another job already."""
        with self._choosing:
            device = min(self._jobs, key=lambda name: (self._jobs[name], self._in_shadow[name]))
            self._jobs[device] += 1
            is_busy = self._jobs[device] > 1
        try:
            yield device, is_busy
        finally:
            with self._choosing:
                self._jobs[device] -= 1

    @contextmanager
    def chosen_in_shadow(self) -> Iterator[str]:
        """Run a job in shadow on a device that has no other job; raises ``AttemptYielded`` when there is none."""
        with self._choosing:
            unused = [name for name, number in self._jobs.items() if number == 0]
            if not unused:
                raise AttemptYielded("a job in shadow yields: no device is without another job")
            device = min(unused, key=lambda name: self._in_shadow[name])
            self._in_shadow[device] += 1
        try:
            with self.running_in_shadow(device):
                yield device
        finally:
            with self._choosing:
                self._in_shadow[device] -= 1

    @contextmanager
    def running_in_shadow(self, device: str) -> Iterator[None]:
        """Run one job in shadow on a device at once: on a CPU beside another one, on a GPU when that has ended."""
        with (
            self._running_in_shadow[device],
            self._running[device] if shares_no_time(device) else nullcontext(),
        ):
            yield

    def is_needed(self, device: str) -> bool:
        """Whether a job that is not in shadow runs on the device or waits for it."""
        return self._jobs[device] > 0

    def has_idle(self) -> bool:
        """Whether a device has no job, not even one in shadow."""
        return any(self._jobs[name] == 0 == self._in_shadow[name] for name in self._jobs)

    def running(self, device: str) -> threading.Lock:
        """Held by the job that runs on the device, and by one in shadow on a GPU."""
        return self._running[device]


def shares_no_time(device: str) -> bool:
    """Whether a device has no priorities, so that a job in shadow has to end before another one begins."""
    return device.startswith("cuda")
