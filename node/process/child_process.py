"""Processes that are copies of this one at the moment of their start (fork(2))."""

from __future__ import annotations

import os
import signal
import time

from node.process.children import die_with_parent, name_process

_POLL_SECONDS = 0.05
_FATAL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class ChildProcess:
    """A copy of this process, which ends with it. Only for a process that has a single thread: it has the only copy."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    @classmethod
    def fork(cls, name: str) -> ChildProcess | None:
        """Start a process, to be known by ``name`` (at most 15 characters) in ps(1); return ``None`` in it.

        It handles signals as a new program does, so that none of them ends up in a handler of this process.
        """
        parent = os.getpid()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _FATAL)
        try:
            if pid := os.fork():
                return cls(pid)
            for number in _FATAL:
                signal.signal(number, signal.SIG_DFL)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        name_process(name)
        die_with_parent(signal.SIGTERM, parent)
        return None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or ``None`` while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self, seconds: float = float("inf")) -> bool:
        """Wait at most that long for its end; return whether it has ended."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def end(self, number: signal.Signals) -> None:
        """Send the signal unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)
