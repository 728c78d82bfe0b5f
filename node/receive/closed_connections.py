"""Log lines on connections that were closed unanswered: a flood of connections must not become a flood of lines."""

from __future__ import annotations

import logging
import threading
import time

LOGGER = logging.getLogger(__name__)

_LINE_SECONDS = 60.0
"""Between two lines on one address."""
_ADDRESSES = 1000


class ClosedConnections:
    """Counts them by address, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[str, tuple[int, float]] = {}
        """Connections that no line counts yet, and the time of the last line, by address."""

    def add(self, address: str, reason: str) -> None:
        """Count a closed connection; log at most one line a minute and address."""
        at = time.monotonic()
        with self._lock:
            count, logged_at = self._counted.get(address, (0, float("-inf")))
            if at - logged_at < _LINE_SECONDS:
                self._counted[address] = count + 1, logged_at
                return
            if len(self._counted) >= _ADDRESSES:
                self._counted.clear()
            self._counted[address] = 0, at
        more = f", and {count} before" if count else ""
        LOGGER.warning("connection from %s closed%s: %s", address, more, reason)
