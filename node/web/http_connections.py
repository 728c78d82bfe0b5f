"""The listening socket of the dashboard: it bounds open connections before anything is read from them."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

OF_ADDRESS = 64
"""Open connections of one address: a browser opens six, and a proxy one for each request that it passes on."""
IN_ALL = 512


class HttpListening(socket.socket):
    """Accepts connections; those beyond the bounds are closed at once."""

    def __init__(self, family: socket.AddressFamily) -> None:
        super().__init__(family)
        self._open: Counter[str] = Counter()

    def accept(self) -> tuple[socket.socket, Any]:
        while True:
            accepted, address = super().accept()
            origin = str(address[0])
            if self._open[origin] < OF_ADDRESS and self._open.total() < IN_ALL:
                break
            accepted.close()
        self._open[origin] += 1
        return _Counted(accepted, lambda: self._closed_one(origin)), address

    def _closed_one(self, origin: str) -> None:
        self._open[origin] -= 1
        if not self._open[origin]:
            del self._open[origin]


class _Counted(socket.socket):
    """A connection that reports its end."""

    def __init__(self, accepted: socket.socket, ended: Callable[[], None]) -> None:
        self._ended: Callable[[], None] | None = ended
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())

    def close(self) -> None:
        ended, self._ended = self._ended, None
        super().close()
        if ended is not None:
            ended()
