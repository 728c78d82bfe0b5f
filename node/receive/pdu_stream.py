"""The bytes of one connection: PDU after PDU out of one reused buffer, with deadlines that the kernel keeps."""

from __future__ import annotations

import mmap
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from node.receive.pdu import HEADER
from node.tls import PeerCertificate

BUFFER_BYTES = 1 << 18
"""One per connection: two PDUs of the length that we advertise. Pages that are never written cost no memory."""
_FULL = BUFFER_BYTES // 2
"""Used so far, the buffer is begun anew with the next read: TLS comes in records of 16 KiB."""
_WINDOW_BYTES = 1 << 20
"""What a peer may send before anything of it is read, from the first image on: a CT image."""

_TIMEVAL = struct.Struct("ll")


class PduStream:
    """Reads for one thread. Raises ``ConnectionError`` when the peer is gone, ``TimeoutError`` when it is too slow.

    A blocked read costs nothing: the kernel wakes it (``SO_RCVTIMEO``), nobody polls.
    """

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        """``timeout``: seconds that one send may wait for the peer."""
        self.before_reading: Callable[[], None] = _nothing
        """Called before what was received is overwritten."""
        self._socket = connection
        self._view = memoryview(mmap.mmap(-1, BUFFER_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._low = self._high = 0
        self._patience = 0.0
        self._deadline = 0.0
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What a threshold needs, the kernel makes room for; SO_RCVBUF would end its own tuning, which long lines need.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _WINDOW_BYTES)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))

    def secure(self, context: ssl.SSLContext, seconds: float) -> PeerCertificate | None:
        """TLS from now on; what the peer has shown in the handshake, which may take so long."""
        self._socket.settimeout(seconds)
        self._patience = seconds
        self._socket = secured = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        secured.do_handshake()
        return PeerCertificate.of(secured)

    def header(self, *, idle: float, whole: float) -> tuple[int, int]:
        """Type and length of the next PDU (PS3.8 9.3.1), which must begin within ``idle`` seconds.

        It must be read to its end ``whole`` seconds after its first byte, or when ``idle`` is over if that is later.
        """
        if idle != self._patience:
            self._set_patience(idle)
        self._deadline = time.monotonic() + idle
        if self._high == self._low:
            self._fill()
            if whole:
                self._deadline = max(self._deadline, time.monotonic() + whole)
        elif whole > idle:
            self._deadline += whole - idle
        kind, length = self.unpack(HEADER)
        return kind, length

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """The numbers of the next few bytes."""
        low = self._low
        if self._high - low < layout.size:
            self._need(layout.size)
            low = self._low
        self._low = low + layout.size
        return layout.unpack_from(self._view, low)

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long; what comes stays to be read."""
        self._set_patience(seconds)
        self._deadline = time.monotonic() + seconds + 1.0
        try:
            self._need(1)
        except TimeoutError:
            return True
        return False

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, copied."""
        taken = bytearray()
        while len(taken) < count:
            taken += self.part(count - len(taken))
        return bytes(taken)

    def part(self, most: int) -> memoryview:
        """The next bytes, as many as the buffer takes, not copied; valid until ``before_reading`` was called."""
        if self._low == self._high:
            self._fill()
        low = self._low
        while self._high - low < most and self._high <= _FULL:  # a few long parts are quicker to digest than many
            self._fill()
        self._low = high = min(low + most, self._high)
        return self._view[low:high]

    def skip(self, count: int) -> None:
        """Read and forget."""
        while count:
            count -= len(self.part(count))

    def ignore(self, seconds: float) -> None:
        """Wait so long at most for something to forget."""
        self._low = self._high = 0
        self._set_patience(seconds)
        self._deadline = time.monotonic() + seconds
        self._fill()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._socket.sendall(data)
        except BlockingIOError as error:
            raise TimeoutError("the peer takes nothing") from error

    def interrupt(self) -> None:
        """From another thread: what was received can still be read, then the peer counts as gone."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RD)  # that of SSLSocket would go on in plain text

    def close(self) -> None:
        """Close the connection and give up the buffer."""
        self._socket.close()
        self.before_reading = _nothing
        self._view = memoryview(b"")

    def _set_patience(self, seconds: float) -> None:
        if seconds != self._patience and isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(seconds)  # OpenSSL takes the kernel's timeout for a reason to try again
            self._patience = seconds
        elif seconds != self._patience:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
            self._patience = seconds

    def _need(self, count: int) -> None:
        while self._high - self._low < count:
            self._fill(count)

    def _fill(self, count: int = 1) -> None:
        """Read what there is; afterwards ``count`` bytes from the present position fit into the buffer."""
        if self._low + count > BUFFER_BYTES or self._high > _FULL:
            self.before_reading()
            rest = self._high - self._low
            self._view[:rest] = self._view[self._low : self._high]
            self._low, self._high = 0, rest
        try:
            received = self._socket.recv_into(self._view[self._high :])
        except BlockingIOError as error:
            raise TimeoutError("the peer is silent") from error
        if not received:
            raise ConnectionError("the peer closed the connection")
        self._high += received
        if time.monotonic() > self._deadline:
            raise TimeoutError("the peer is too slow")


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return _TIMEVAL.pack(whole, max(int((seconds - whole) * 1e6), 0 if whole else 1))


def _nothing() -> None:
    return
