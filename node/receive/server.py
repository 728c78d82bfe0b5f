"""The listening socket and the associations that it opened."""

from __future__ import annotations

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from node.receive.association import Association, Handlers
from node.receive.negotiation import prepare
from node.receive.policy import Policy, Rejection

LOGGER = logging.getLogger(__name__)

_WAITING = 64
"""Connections that have not associated yet, beside the associations; more are closed at once."""
_BACKLOG = 128
_FULL_SECONDS = 0.1
"""Pause when the process can open no more files."""


class Server:
    """Accepts connections in a thread of its own; each association has another."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        policy: Policy,
        acse_timeout: float,
        network_timeout: float,
        handlers: Handlers,
    ) -> None:
        """Bind and listen. Raises ``OSError`` when the address is taken or not ours."""
        self.acse_timeout = acse_timeout
        """ARTIM timer (PS3.8 9.1.4), seconds."""
        self.network_timeout = network_timeout
        self.handlers = handlers
        self.stopping = False
        self._policy = policy
        self._lock = threading.Lock()
        self._connected: set[Association] = set()
        self._admitted: set[str] = set()
        prepare()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=_BACKLOG)
        host, port = self._socket.getsockname()[:2]
        self.address = (str(host), int(port))
        """Host and port it listens on."""
        self._thread = threading.Thread(target=self._run, name="receive-listener", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def admit(self, association: Association) -> Rejection | None:
        """Let an association in, or say why not; connections that have not associated do not count."""
        with self._lock:
            rejection = self._policy.rejection(
                calling=association.calling_ae,
                called=association.called_ae,
                address=association.peer_address,
                open_associations=len(self._admitted),
            )
            if rejection is None:
                self._admitted.add(association.id)
        return rejection

    def leave(self, association: Association) -> None:
        """An association ended, its connection perhaps not yet."""
        with self._lock:
            admitted = association.id in self._admitted
            self._admitted.discard(association.id)
        if admitted:
            self.handlers.closed(association.id)

    def gone(self, association: Association) -> None:
        """A connection is closed."""
        with self._lock:
            self._connected.discard(association)

    def drain(self, seconds: float) -> None:
        """Stop listening, let every C-STORE under way be answered, then end the associations.

        Associations that are still busy after ``seconds`` are aborted; what they were sending is not acknowledged.
        """
        self.stopping = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._socket.close()
        deadline = time.monotonic() + seconds
        while any(association.is_busy for association in self._connections()) and time.monotonic() < deadline:
            time.sleep(0.01)
        remaining = self._connections()
        with ThreadPoolExecutor(max_workers=len(remaining) + 1) as pool:
            list(pool.map(Association.end, remaining))

    def _connections(self) -> list[Association]:
        with self._lock:
            return list(self._connected)

    def _run(self) -> None:
        while not self.stopping:
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if not self.stopping:
                    LOGGER.warning("a connection could not be accepted: %s", error)
                    time.sleep(_FULL_SECONDS)
                continue
            try:
                self._open(connection, str(address[0]))
            except (OSError, RuntimeError) as error:  # the peer is gone already, or no thread can be started
                LOGGER.warning("connection from %s closed: %s", address[0], error)
                connection.close()

    def _open(self, connection: socket.socket, address: str) -> None:
        with self._lock:
            too_many = len(self._connected) >= self._policy.max_associations + _WAITING
        if too_many:
            LOGGER.warning("connection from %s closed: too many connections that do not associate", address)
            connection.close()
            return
        association = Association(self, connection, address)
        with self._lock:
            self._connected.add(association)
        try:
            association.start()
        except RuntimeError:
            self.gone(association)
            raise
