"""Time that nobody else wants: what computes in it pauses while it is taken, without losing what it has done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from node.process.pause import pause, resume, started_at

TIMES_SLOWER = 10.0
"""How much longer than others what computes in idle time may take: its priority gives it a tenth of a busy core."""

_LOOK_SECONDS = 1.0
"""Between two looks at what has started meanwhile: they cost little, and whoever took the time would pay."""


class IdleTime:
    """The idle time of one process of the node and of those that it starts; any thread may call.

    Its users have a lower priority besides (``node.process.priority``): priorities hold between threads
    that want the same core, and not for the memory and the caches that cores share. Pausing holds for everything.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._takers = 0
        self._taken_at = 0.0
        self._looked_at = 0.0
        self._seconds = 0.0
        self._users: dict[int, float] = {}
        self._withdrawals = 0

    @property
    def is_taken(self) -> bool:
        """Whether somebody computes who must not be slowed."""
        return self._takers > 0

    @property
    def withdrawals(self) -> int:
        """How often it was withdrawn: whoever computes in idle time ends when this has grown since it began."""
        return self._withdrawals

    def taken_seconds(self) -> float:
        """For how long it was taken until now, altogether."""
        with self._lock:
            return self._seconds + (time.monotonic() - self._taken_at if self._takers else 0.0)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Pause whoever uses it."""
        try:
            with self._lock:
                self._takers += 1
                if self._takers == 1:
                    self._taken_at = time.monotonic()
                    for pid, started in self._users.items():
                        pause(pid, started)
            yield
        finally:
            with self._lock:
                self._takers -= 1
                if self._takers == 0:
                    self._seconds += time.monotonic() - self._taken_at
                    for pid, started in self._users.items():
                        resume(pid, started)

    @contextmanager
    def used_by(self, pid: int) -> Iterator[None]:
        """Pause what a child process has started while idle time is taken; afterwards it runs."""
        started = started_at(pid)
        with self._lock:
            self._users[pid] = started
            if self._takers:
                pause(pid, started)
        try:
            yield
        finally:
            with self._lock:
                del self._users[pid]
                resume(pid, started)

    def look(self) -> None:
        """Pause what the users have started since it was taken; whoever computes for them calls it now and then."""
        with self._lock:
            if self._takers and time.monotonic() - self._looked_at >= _LOOK_SECONDS:
                self._looked_at = time.monotonic()
                for pid, started in self._users.items():
                    pause(pid, started)

    def withdraw(self) -> None:
        """Have whoever uses it end: this process takes no more work."""
        self._withdrawals += 1
