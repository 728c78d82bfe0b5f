"""Persistent connections of a receiver to the copy services of other machines."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections import defaultdict
from hashlib import blake2b
from typing import NamedTuple

from sqlalchemy import Engine

from node.actor import look_every, surviving
from node.config import DestinationTls, Fleet
from node.ledger.holdings import CopyAddress, copy_services
from node.tls import client_context

_CONNECT_SECONDS = 3.0
_SILENCE_SECONDS = 5.0
"""A machine that takes no data for this long is treated as gone."""
_AVOIDED_SECONDS = 10.0
"""How long no image is sent to a machine that has failed."""
_LOOK_SECONDS = 2.0


class CopyConnection(NamedTuple):
    """An open connection to a copy service."""

    service: CopyAddress
    socket: ssl.SSLSocket


class CopyClient:
    """The connections of one process; any thread may call. Call ``start`` once, then ``stop``."""

    def __init__(self, fleet: Fleet, engine: Engine, machine: str, writer: str) -> None:
        """``machine``, ``writer``: the ids of this machine and of the receiver."""
        self.writer = writer
        self._fleet = fleet
        self._engine = engine
        self._machine = machine
        self._services: list[CopyAddress] = []
        self._avoided: dict[str, float] = {}
        """By machine; until when, by the monotonic clock."""
        self._idle: defaultdict[str, list[CopyConnection]] = defaultdict(list)
        """By address."""
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start(self) -> None:
        """Look for copy services now, and then every few seconds."""
        with surviving("copy services"):
            self.look()
        arguments = (_LOOK_SECONDS, self._stop, "copy services", self.look)
        threading.Thread(target=look_every, args=arguments, name="copy-services", daemon=True).start()

    def stop(self) -> None:
        """Close the connections that have nothing to do."""
        self._stop.set()
        with self._lock:
            idle = [connection for of_address in self._idle.values() for connection in of_address]
            self._idle.clear()
        for connection in idle:
            connection.socket.close()

    def look(self) -> None:
        """Read from the ledger which copy services are alive. While it cannot be read, the last ones count."""
        with self._engine.connect() as connection:
            services = [of for of in copy_services(connection) if of.machine != self._machine]
        self._services = sorted(services, key=lambda of: (of.is_draining, self._weight(of.machine)))

    def services(self) -> list[CopyAddress]:
        """Return the copy services of other machines in the order in which they are asked."""
        at = time.monotonic()
        return [of for of in self._services if self._avoided.get(of.machine, 0.0) < at]

    def avoid(self, machine: str) -> None:
        """Send nothing to a machine for some seconds, because it has failed."""
        self._avoided[machine] = time.monotonic() + _AVOIDED_SECONDS

    def open(self, service: CopyAddress) -> CopyConnection:
        """Return a connection that has nothing to do, or a new one. Raises ``OSError``, ``ConfigError``."""
        while True:
            with self._lock:
                if not self._idle[service.address]:
                    break
                connection = self._idle[service.address].pop()
            poll = select.poll()
            poll.register(connection.socket, select.POLLIN)
            if not poll.poll(0):
                return connection
            connection.socket.close()  # the other side has closed it
        return self.connect(service)

    def connect(self, service: CopyAddress) -> CopyConnection:
        """Return a new connection. Raises ``OSError``, ``ConfigError``."""
        fleet = self._fleet
        tls = DestinationTls(certificate=fleet.certificate, key=fleet.key, ca=fleet.ca, crl=fleet.crl)
        context = client_context(tls, "[fleet]")
        host, _, port = service.address.rpartition(":")
        raw = socket.create_connection((host, int(port)), _CONNECT_SECONDS)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secured = context.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise
        secured.settimeout(_SILENCE_SECONDS)
        return CopyConnection(service, secured)

    def give_back(self, connection: CopyConnection) -> None:
        """Keep a connection for another image."""
        connection.socket.settimeout(_SILENCE_SECONDS)
        with self._lock:
            self._idle[connection.service.address].append(connection)

    def _weight(self, machine: str) -> bytes:
        """The order in which this machine asks the others; each is the first of about as many."""
        return blake2b(f"{self._machine} {machine}".encode(), digest_size=8).digest()
