"""The connections and associations of one receiver process."""

from __future__ import annotations

import logging
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from node.ledger.association_endings import Ending
from node.listening import Listening
from node.process.memory import return_freed_memory
from node.receive.association import Association, Handlers
from node.receive.association_slots import AssociationSlots
from node.receive.negotiation import prepare
from node.receive.policy import Policy, Rejection
from node.receive.rate_limit import RateLimit
from node.tls import ServerTls

LOGGER = logging.getLogger(__name__)

_WAITING = 64
"""Connections that have not associated yet, beside the associations; more are closed at once."""
_FULL_SECONDS = 0.1
"""Pause when the process can open no more files."""
_SWITCH_SECONDS = 0.001
"""How long a thread that could go on waits for one that computes (default 0.005): an association waits a dozen times
in each C-STORE when a batch of rows is being written."""
_SILENT_SECONDS = 0.5
"""An association without a message for so long is between two studies, or forgotten: a stop does not wait for it."""


class Server:
    """Accepts connections in a thread of its own; each association has another."""

    def __init__(
        self,
        listening: Listening,
        *,
        policy: Policy,
        acse_timeout: float,
        network_timeout: float,
        handlers: Handlers,
        tls: ServerTls | None = None,
    ) -> None:
        """Nothing is accepted before ``start``."""
        self.tls = tls
        self.acse_timeout = acse_timeout
        """ARTIM timer (PS3.8 9.1.4), seconds."""
        self.network_timeout = network_timeout
        self.handlers = handlers
        self.stopping = False
        self._policy = policy
        self._lock = threading.Lock()
        self._connected: set[Association] = set()
        self._admitted: dict[str, tuple[int, ...]] = {}
        self._listening = listening
        self._slots = AssociationSlots(listening.seats)
        self._rate = RateLimit(self._slots, policy.associations_per_minute)
        self._accepting = True
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        prepare()
        return_freed_memory()
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._thread = threading.Thread(target=self._run, name="receive-listener", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def admit(self, association: Association) -> Rejection | None:
        """Let an association in, or say why not; connections that have not associated do not count."""
        calling, address = association.calling_ae, association.peer_address
        shown = association.certificate
        if not self._rate.allows(address):
            return Rejection(2, 3, 1, f"too many associations of {address} within a minute: temporary congestion")
        rejection = self._policy.rejection(
            calling=calling, called=association.called_ae, address=address, certificate=shown
        )
        if rejection is not None:
            return rejection
        slots = self._slots.take(self._policy.limits(calling, address, shown))
        if isinstance(slots, str):
            return Rejection(2, 3, 2, f"no association free for {slots or 'anybody'}: local limit exceeded")
        association.admission = self._policy.admission(calling, address, shown)
        with self._lock:
            self._admitted[association.id] = slots
        return None

    def leave(self, association: Association, ending: Ending) -> None:
        """An association ended, its connection perhaps not yet."""
        with self._lock:
            slots = self._admitted.pop(association.id, None)
        if slots is not None:
            self._slots.give_back(slots)
            self.handlers.closed(association, ending)

    def gone(self, association: Association) -> None:
        """A connection is closed."""
        with self._lock:
            self._connected.discard(association)

    def finish(self, hurry: threading.Event, grace_seconds: float) -> None:
        """Accept nothing more, and return when the last association has ended.

        From the moment when ``hurry`` is set only associations that are sending are waited for, and not longer than
        the grace. What is left then is aborted; what it was sending is not acknowledged.
        """
        self._accepting = False
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        self._listening.socket.close()
        _wait(lambda: bool(self._connections()) and not hurry.is_set(), None)
        _wait(lambda: any(c.is_busy or c.silent_seconds < _SILENT_SECONDS for c in self._connections()), grace_seconds)
        self.stopping = True
        remaining = self._connections()
        with ThreadPoolExecutor(max_workers=len(remaining) + 1) as pool:
            list(pool.map(Association.end, remaining))

    def _connections(self) -> list[Association]:
        with self._lock:
            return list(self._connected)

    def _run(self) -> None:
        events = select.poll()  # not select(): more than 1024 descriptors may be open
        events.register(self._listening.socket, select.POLLIN)
        events.register(self._wake, select.POLLIN)
        while self._accepting:
            events.poll()
            try:
                connection, address = self._listening.socket.accept()
            except BlockingIOError:  # a sibling was faster, or we are to end
                continue
            except OSError as error:
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


def _wait(condition: Callable[[], bool], seconds: float | None) -> None:
    """While a condition holds, at most so long."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while condition() and (deadline is None or time.monotonic() < deadline):
        time.sleep(0.02)
