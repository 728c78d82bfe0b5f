"""Listening sockets of HTTP, whose port is this node's alone and which bound open connections, and what serves them."""

from __future__ import annotations

import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from node.errors import PlatformError
from node.process.port_lock import PortLock, address_family, bind_error

OF_ADDRESS = 64
"""Open connections of one address: a browser opens six, and a proxy one for each request that it passes on."""
IN_ALL = 512
REQUEST_END_SECONDS = 5
"""Requests that are being answered at the end have this long to end by themselves."""
SERVER_END_SECONDS = 15

logger = logging.getLogger(__name__)


class HttpListening(socket.socket):
    """Accepts connections; those beyond the bounds are closed at once."""

    def __init__(self, address: str, port: int, lock: PortLock, of_address: int) -> None:
        """``lock``: held as long as the socket is open. ``of_address``: most open connections of one address."""
        super().__init__(address_family(address))
        self._open: Counter[str] = Counter()
        self._lock = lock
        self._of_address = of_address
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.bind((address, port))
        self.listen(128)

    def accept(self) -> tuple[socket.socket, Any]:
        while True:
            accepted, address = super().accept()
            origin = str(address[0])
            if self._open[origin] < self._of_address and self._open.total() < IN_ALL:
                break
            accepted.close()
        self._open[origin] += 1
        return _Counted(accepted, lambda: self._closed_one(origin)), address

    def close(self) -> None:
        super().close()
        self._lock.close()

    def _closed_one(self, origin: str) -> None:
        self._open[origin] -= 1
        if not self._open[origin]:
            del self._open[origin]


def listen(address: str, port: int, folder: Path, where: str = "[web]", of_address: int = OF_ADDRESS) -> HttpListening:
    """Listen with SO_REUSEPORT, so that the next process of this node can take over at a reload.

    The kernel would share the port with another node of the same user, too, and give each every second request. So the
    first process of a node, which a lock in its storage ``folder`` identifies, needs a port that nobody listens on.
    ``where``: the table of the configuration. Raises ``PlatformError`` when the address is not available.
    """
    try:
        lock = PortLock(folder, port)
        try:
            if lock.is_first() and (error := bind_error(address, port)) is not None:
                raise error
            listener = HttpListening(address, port, lock, of_address)
        except OSError:
            lock.close()
            raise
        lock.share()
    except OSError as error:
        fault = f"{where} {address}:{port}: {error.strerror}; stop what uses the port, or change it"
        raise PlatformError(fault) from error
    return listener


@contextmanager
def served(app: Starlette, listener: socket.socket, name: str, **settings: Any) -> Iterator[None]:
    """Serve ``app`` in a thread until the end of the ``with`` block, which closes ``listener``.

    A request that does not let itself be ended is left behind with its thread.
    ``settings``: of ``uvicorn.Config``, besides those that every server of the node has.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=REQUEST_END_SECONDS,
        **{"ws": "none"} | settings,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(SERVER_END_SECONDS)
        if thread.is_alive():
            logger.warning("%s: a request has not ended in %d s and is left behind", name, SERVER_END_SECONDS)
        listener.close()


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
