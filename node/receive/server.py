"""Accepts the connections of one receiver process and keeps its associations."""

from __future__ import annotations

import logging
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from node.addresses import network_of
from node.ledger.association_endings import Ending
from node.listening import Listening
from node.process.memory import return_freed_memory
from node.receive.association import Association, Handlers
from node.receive.association_slots import AssociationSlots, Kind, Limit
from node.receive.closed_connections import ClosedConnections
from node.receive.negotiation import prepare
from node.receive.policy import Policy, Rejection
from node.receive.rate_limit import RateLimit
from node.tls import ServerTls

LOGGER = logging.getLogger(__name__)

_WAITING = 64
"""Connections without an association, in addition to the associations; further ones are closed immediately."""
_FULL_SECONDS = 0.1
"""Pause when the process cannot open more files."""
_SWITCH_SECONDS = 0.001
"""Interpreter switch interval (default 0.005): an association waits for it a dozen times in each C-STORE while a batch
of rows is written."""
_SILENT_SECONDS = 0.5
"""An association without a message for this long is idle; a forced shutdown does not wait for it."""


class Server:
    """Accepts connections in one thread and serves each association in another."""

    def __init__(
        self,
        listening: Listening,
        *,
        policy: Policy,
        acse_timeout: float,
        network_timeout: float,
        transfer_timeout: float,
        handlers: Handlers,
        tls: ServerTls | None = None,
        is_drained: Callable[[], bool] = lambda: False,
        elsewhere: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Connections are accepted after ``start``. ``is_drained``: whether associations are rejected for now.

        ``elsewhere``: what callers have open at other machines, by the key of the limit.
        """
        self.tls = tls
        self.acse_timeout = acse_timeout
        """ARTIM timer (PS3.8 9.1.4), seconds."""
        self.network_timeout = network_timeout
        self.transfer_timeout = transfer_timeout
        self.handlers = handlers
        self.stopping = False
        self._policy = policy
        self._lock = threading.Lock()
        self._connected: dict[Association, tuple[int, ...]] = {}
        """Connections with their slots."""
        self._closed = ClosedConnections()
        self._admitted: dict[str, tuple[int, ...]] = {}
        self._listening = listening
        self._slots = AssociationSlots(listening.slots, elsewhere)
        self._rate = RateLimit(self._slots, policy.associations_per_minute)
        self._is_drained = is_drained
        self._accepting = True
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        prepare()
        return_freed_memory()
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._thread = threading.Thread(target=self._run, name="receive-listener", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def held_in_fleet(self) -> dict[str, int]:
        """Return what this process holds of the limits that count in the fleet, by the key of the limit."""
        self._rate.expire()
        return self._slots.held_in_fleet()

    def identified(self, association: Association) -> bool:
        """Take the slots of the peer that a proxy stated; return whether it has room for one more connection."""
        slots = self._take_connection(association.peer_address)
        with self._lock:
            self._connected[association] = slots or ()
        return slots is not None

    def admit(self, association: Association) -> Rejection | None:
        """Admit an association and take its slots, or return why it is rejected."""
        calling, address = association.calling_ae, association.peer_address
        shown = association.certificate
        if self._is_drained():
            return Rejection(2, 3, 1, "this machine is being drained, call again or call another: temporary congestion")
        if not self._rate.allows(network_of(address)):
            return Rejection(2, 3, 1, f"too many associations from {address} within a minute: temporary congestion")
        rejection = self._policy.rejection(
            calling=calling, called=association.called_ae, address=address, certificate=shown
        )
        if rejection is not None:
            return rejection
        slots = self._slots.take_any(self._policy.limits(calling, address, shown))
        if isinstance(slots, Limit):
            whose = f"{slots.owner} has" if slots.kind == Kind.OF_TITLE else "the node has"
            return Rejection(2, 3, 2, f"{whose} no free association: local limit exceeded")
        association.admission = self._policy.admission(calling, address, shown)
        with self._lock:
            self._admitted[association.id] = slots
        return None

    def association_ended(self, association: Association, ending: Ending) -> None:
        """Free the slots of an association; its connection may still be open."""
        with self._lock:
            slots = self._admitted.pop(association.id, None)
        if slots is not None:
            self._slots.give_back(slots)
            self.handlers.closed(association, ending)

    def connection_closed(self, association: Association) -> None:
        """Remove a closed connection."""
        with self._lock:
            slots = self._connected.pop(association, ())
        self._slots.give_back(slots)

    def drain(self, forced: threading.Event, grace_seconds: float) -> None:
        """Accept nothing more and return when the last association has ended.

        Once ``forced`` is set, only active transfers are waited for, at most for the grace period. Remaining
        associations are aborted, and an instance that is being sent is not acknowledged.
        """
        self._accepting = False
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        self._listening.socket.close()
        _wait_while(lambda: bool(self._connections()) and not forced.is_set(), None)
        _wait_while(
            lambda: any(c.is_busy or c.silent_seconds < _SILENT_SECONDS for c in self._connections()), grace_seconds
        )
        self.stopping = True
        remaining = self._connections()
        with ThreadPoolExecutor(max_workers=len(remaining) + 1) as pool:
            list(pool.map(Association.end, remaining))

    def _connections(self) -> list[Association]:
        with self._lock:
            return list(self._connected)

    def _run(self) -> None:
        events = select.poll()  # select() is limited to 1024 descriptors
        events.register(self._listening.socket, select.POLLIN)
        events.register(self._wake, select.POLLIN)
        while self._accepting:
            events.poll()
            try:
                connection, address = self._listening.socket.accept()
            except BlockingIOError:  # another receiver process accepted it, or the server drains
                continue
            except OSError as error:
                LOGGER.warning("a connection could not be accepted: %s", error)
                time.sleep(_FULL_SECONDS)
                continue
            try:
                self._open(connection, str(address[0]))
            except (OSError, RuntimeError) as error:  # the peer has closed it, or no thread can be started
                LOGGER.warning("connection from %s closed: %s", address[0], error)
                connection.close()

    def _open(self, connection: socket.socket, address: str) -> None:
        with self._lock:
            too_many = len(self._connected) >= self._policy.max_associations + _WAITING
        if too_many:
            self._closed.add(address, "too many connections without an association")
            connection.close()
            return
        is_proxied = self._policy.is_proxy(address)
        slots = () if is_proxied else self._take_connection(address)
        if slots is None:
            connection.close()
            return
        association = Association(self, connection, address, is_proxied=is_proxied)
        with self._lock:
            self._connected[association] = slots
        try:
            association.start()
        except RuntimeError:
            self.connection_closed(association)
            raise

    def _take_connection(self, address: str) -> tuple[int, ...] | None:
        """Take the slots of a connection, or log the limit that is reached and return ``None``."""
        slots = self._slots.take(self._policy.connection_limits(address))
        if isinstance(slots, Limit):
            self._closed.add(address, f"{slots.size} are open from {slots.owner or 'addresses of no caller'}")
            return None
        return slots


def _wait_while(condition: Callable[[], bool], seconds: float | None) -> None:
    """Wait while a condition is true, at most this long."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while condition() and (deadline is None or time.monotonic() < deadline):
        time.sleep(0.02)
