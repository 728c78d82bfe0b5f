"""Shutdown signals: SIGTERM and SIGINT force the end, SIGUSR1 drains."""

from __future__ import annotations

import signal
import threading


class ShutdownSignals:
    """The shutdown that the signals of this process ask for."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        """Begin nothing more; end when what has begun is finished."""
        self.forced = threading.Event()
        """End without waiting for long operations."""

    def install(self) -> None:
        """Install the handlers. SIGHUP, which a terminal sends to every process, is handled by the supervisor alone."""

        def force(_number: int, _frame: object) -> None:
            self.forced.set()
            self.requested.set()

        signal.signal(signal.SIGTERM, force)
        signal.signal(signal.SIGINT, force)
        signal.signal(signal.SIGUSR1, lambda *_: self.requested.set())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
