"""Byte stream of one connection: PDUs from one reused buffer, with timeouts kept by the kernel."""

from __future__ import annotations

import mmap
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from node.receive.pdu import HEADER
from node.receive.proxy_header import read_peer_address
from node.tls import PeerCertificate

BUFFER_BYTES = 1 << 18
"""Buffer per connection: two PDUs of the advertised length. Pages that are never written cost no memory."""
_FULL = BUFFER_BYTES // 2
"""Fill level from which the next read starts at the beginning of the buffer; TLS arrives in records of 16 KiB."""
_WINDOW_BYTES = 1 << 20
"""Bytes that a peer can send before they are read: more than one CT image."""

_TIMEVAL = struct.Struct("ll")


class PduStream:
    """Reads for one thread, without polling (``SO_RCVTIMEO``).

    Raises ``ConnectionError`` when the connection is closed, ``TimeoutError`` when the peer is too slow.
    """

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        """``timeout``: seconds that one send may wait for the peer."""
        self.before_reading: Callable[[], None] = _nothing
        """Called before received bytes are overwritten."""
        self._socket = connection
        self._view = memoryview(mmap.mmap(-1, BUFFER_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._low = self._high = 0
        self._timeout = 0.0
        self._deadline = 0.0
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A low-water mark enlarges the receive window; SO_RCVBUF would disable the kernel's tuning for long distances.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _WINDOW_BYTES)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))

    def proxied_address(self, seconds: float) -> str:
        """Read the header of a proxy, which precedes TLS; see ``read_peer_address``."""
        try:
            return read_peer_address(self._socket, seconds)
        finally:
            self._socket.setblocking(True)

    def secure(self, context: ssl.SSLContext, seconds: float) -> PeerCertificate | None:
        """Start TLS with a handshake of at most ``seconds``; return the peer's certificate."""
        self._socket.settimeout(seconds)
        self._timeout = seconds
        self._socket.getpeername()  # raises for a reset connection: wrap_socket would leave its socket open
        self._socket = secured = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        secured.do_handshake()
        return PeerCertificate.of(secured)

    def header(self, *, idle: float, whole: float) -> tuple[int, int]:
        """Read type and length of the next PDU (PS3.8 9.3.1), which must begin within ``idle`` seconds.

        It must be read completely ``whole`` seconds after its first byte, or when ``idle`` is over if that is later.
        """
        if idle != self._timeout:
            self._set_timeout(idle)
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
        """Unpack the next bytes."""
        low = self._low
        if self._high - low < layout.size:
            self._need(layout.size)
            low = self._low
        self._low = low + layout.size
        return layout.unpack_from(self._view, low)

    def is_silent(self, seconds: float) -> bool:
        """Return whether nothing arrives for this long; arriving bytes remain readable."""
        self._set_timeout(seconds)
        self._deadline = time.monotonic() + seconds + 1.0
        try:
            self._need(1)
        except TimeoutError:
            return True
        return False

    def read(self, count: int) -> bytes:
        """Read ``count`` bytes into a copy."""
        taken = bytearray()
        while len(taken) < count:
            taken += self.read_part(count - len(taken))
        return bytes(taken)

    def read_part(self, most: int) -> memoryview:
        """Read up to ``most`` bytes without copying; valid until ``before_reading`` is called."""
        if self._low == self._high:
            self._fill()
        low = self._low
        while self._high - low < most and self._high <= _FULL:  # a few long parts are faster than many short ones
            self._fill()
        self._low = high = min(low + most, self._high)
        return self._view[low:high]

    def discard(self, count: int) -> None:
        """Read and discard ``count`` bytes."""
        while count:
            count -= len(self.read_part(count))

    def discard_input(self, seconds: float) -> None:
        """Wait at most this long for input and discard it."""
        self._low = self._high = 0
        self._set_timeout(seconds)
        self._deadline = time.monotonic() + seconds
        self._fill()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._socket.sendall(data)
        except BlockingIOError as error:
            raise TimeoutError("the peer accepts no data") from error

    def interrupt(self) -> None:
        """End the input, from another thread: received bytes can still be read, then reading raises."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RD)  # SSLSocket.shutdown would continue in plain text

    def close(self) -> None:
        """Close the connection and release the buffer."""
        self._socket.close()
        self.before_reading = _nothing
        self._view = memoryview(b"")

    def _set_timeout(self, seconds: float) -> None:
        if seconds != self._timeout and isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(seconds)  # OpenSSL would retry after the kernel's timeout
            self._timeout = seconds
        elif seconds != self._timeout:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
            self._timeout = seconds

    def _need(self, count: int) -> None:
        while self._high - self._low < count:
            self._fill(count)

    def _fill(self, count: int = 1) -> None:
        """Read available bytes; make room so that ``count`` bytes from the current position fit into the buffer."""
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
