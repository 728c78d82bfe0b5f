"""Slots of the devices of one worker: how many jobs each has at once, and which device a job gets."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

JOBS_ON_GPU = 2
"""One runs and the next is decoded. With more, what is decoded would be dropped (``MOST`` in ``prefetch``)."""


class DeviceSlots:
    """Shared by the threads of a worker."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._running = {name: threading.Lock() for name in devices}
        self._jobs = dict.fromkeys(self._running, 0)
        self._sent = dict.fromkeys(self._running, 0)
        self._choosing = threading.Lock()

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices."""
        return tuple(self._running)

    @property
    def number(self) -> int:
        """Jobs at once. On a CPU one: a second would only take cores from the first."""
        return sum(JOBS_ON_GPU if device.startswith("cuda") else 1 for device in self._running)

    @contextmanager
    def chosen(self, *, in_shadow: bool = False) -> Iterator[tuple[str, bool]]:
        """The device with the fewest jobs, and whether it has another job already."""
        with self._choosing:
            device = min(self._jobs, key=lambda name: self._jobs[name])
            self._jobs[device] += 1
            self._sent[device] += not in_shadow
            is_busy = self._jobs[device] > 1
        try:
            yield device, is_busy
        finally:
            with self._choosing:
                self._jobs[device] -= 1
                self._sent[device] -= not in_shadow

    def is_needed(self, device: str) -> bool:
        """Whether a job whose results are sent runs on the device or waits for it."""
        return self._sent[device] > 0

    def running(self, device: str) -> threading.Lock:
        """Held by the job that runs on the device."""
        return self._running[device]
