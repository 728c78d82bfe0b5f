"""pynetdicom's socket and its two polling loops, mended: they wait for something to happen, and not for ever.

Each with a test of its own: a peer that stalls inside a PDU is cut off; an absurd PDU length is not believed; more than
1024 open files do no harm; idle associations cost next to nothing (pynetdicom's loops look 1000 times a second).
"""

from __future__ import annotations

import queue
import select
import socket
import time
from contextlib import suppress
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

_LONGEST_PDU = 1 << 24
"""A peer that announces a longer PDU is cut off before memory is given to it. An A-ASSOCIATE-RQ of 128 contexts with
all syntaxes is about 300 KiB; P-DATA-TF PDUs have the negotiated length, some peers add their headers on top."""
_SOCKET_MILLISECONDS = 100
"""How long the upper layer waits for the peer or for us before it looks at its timers."""
_BUSY_SECONDS = 1.0
"""So long after the last PDU it looks without waiting: measured under load, that halves the time of a C-STORE."""
_MESSAGE_SECONDS = 0.02
"""How long the association waits for a message before it looks for a release or an abort."""


class PduSocket(AssociationSocket):
    """Reads whole PDUs with a deadline; waits for the peer or to be woken."""

    def __init__(self, association: Association, client: socket.socket, timeout: float) -> None:
        super().__init__(association, client_socket=client)
        self._timeout = timeout
        self._last_read = time.monotonic()
        # Sockets and not bare descriptors: one that is closed can never mean another file.
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._poll = select.poll()  # select() fails on descriptors above 1023
        self._poll.register(client, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._wake_descriptor = self._woken.fileno()

    def wake(self) -> None:
        """There is something to send: stop waiting."""
        with suppress(OSError):
            self._waker.send(b"\0")

    def release(self) -> None:
        """Give back what waking needs, at the end of the association."""
        self._woken.close()
        self._waker.close()

    @property
    def ready(self) -> bool:
        """Whether the peer sent something; waits for it, unless there is something else to do."""
        if self.socket is None or not self._is_connected:
            return False
        readable = {descriptor for descriptor, _ in self._poll.poll(self._patience())}
        if self._wake_descriptor in readable:
            with suppress(OSError):
                self._woken.recv(4096)
        return bool(readable - {self._wake_descriptor})

    def _patience(self) -> int:
        busy = time.monotonic() - self._last_read < _BUSY_SECONDS or not self.event_queue.empty()
        return 0 if busy else _SOCKET_MILLISECONDS

    def recv(self, nr_bytes: int) -> bytearray:
        """Read one part of a PDU. Raises ``OSError`` when it is too long or not here in time: the peer is cut off."""
        connection = self.socket
        if connection is None:
            raise ConnectionError("connection closed")
        if nr_bytes > _LONGEST_PDU:
            raise ConnectionError(f"peer announced a PDU of {nr_bytes} bytes")
        received = bytearray(nr_bytes)
        view, size = memoryview(received), 0
        deadline = time.monotonic() + self._timeout
        while size < nr_bytes:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            count = connection.recv_into(view[size:])
            if not count:
                break
            size += count
        view.release()
        del received[size:]
        connection.settimeout(self._timeout)  # for sending
        self._last_read = time.monotonic()
        return received


class WaitingUpperLayer(DULServiceProvider):
    """Wakes its socket when there is something to send."""

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive for the peer."""
        super().send_pdu(primitive)
        if isinstance(self.socket, PduSocket):
            self.socket.wake()


class WaitingMessages(DIMSEServiceProvider):
    """Waits a moment for the next message where pynetdicom would sleep and look again."""

    def get_msg(self, block: bool = False) -> Any:  # noqa: FBT001, FBT002 - pynetdicom's signature
        """The next message with its context, or ``(None, None)``."""
        if block:
            return super().get_msg(block)
        try:
            return self.msg_queue.get(timeout=_MESSAGE_SECONDS)
        except queue.Empty:
            return None, None
