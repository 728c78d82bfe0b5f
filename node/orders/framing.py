"""Frames of the Minimal Lower Layer Protocol (HL7 2.5.1 appendix C), read from hostile ground in bounded memory."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

START, END = b"\x0b", b"\x1c"
_BETWEEN = b"\r\n"
"""The end of a frame is END and a carriage return, which may come later than the answer."""
_PART = 1 << 16
_LOOK_SECONDS = 0.5
IDLE_SECONDS = 3600.0
"""A connection without a message for this long is closed; senders open another one."""
MESSAGE_SECONDS = 60.0
"""Longest time from the first to the last byte of a message."""


@dataclass(frozen=True)
class Frame:
    """A message without its frame."""

    content: bytes
    fault: str = ""
    """Why it cannot be taken; ``content`` is then its beginning."""
    ends_connection: bool = False
    """Where the next message would begin is not known."""


class SilentError(Exception):
    """The peer is silent, has closed the connection, or sends too slowly."""


class FrameReader:
    """Reads the frames of one connection. Never holds more than the largest message and one part."""

    def __init__(
        self, connection: socket.socket, largest: int, kept: int, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """``largest``: bytes of a message; ``kept``: bytes that are kept of a larger one."""
        self._connection = connection
        self._largest = largest
        self._kept = kept
        self._is_stopping = is_stopping
        self._buffer = bytearray()

    def next(self) -> Frame | None:
        """Wait for a message; ``None`` when the peer has closed the connection, or this process stops.

        Raises ``SilentError``, ``OSError``.
        """
        if not self._skip():
            return None
        deadline = time.monotonic() + MESSAGE_SECONDS
        if not self._buffer.startswith(START):
            return Frame(bytes(self._buffer[: self._kept]), "no start of a frame (0x0B)", ends_connection=True)
        searched, dropped = 1, 0
        while (end := self._buffer.find(END, searched)) < 0:
            searched = len(self._buffer)
            if searched + dropped > self._largest:  # the rest is read and dropped, up to its end
                dropped += max(searched - self._kept, 0)
                del self._buffer[self._kept :]
                searched = len(self._buffer)
            if not self._receive(deadline):
                raise SilentError("closed amid a message")
        content = bytes(self._buffer[1:end])
        del self._buffer[: end + 1]
        if dropped or len(content) > self._largest:
            return Frame(content[: self._kept], f"more than {self._largest} bytes")
        if START in content:
            return Frame(content[: self._kept], "the start of another frame (0x0B) within the message")
        return Frame(content)

    def _skip(self) -> bool:
        """Wait for the first byte of a message; false when there will be none."""
        until = time.monotonic() + IDLE_SECONDS
        while True:
            while self._buffer[:1] and self._buffer[:1] in _BETWEEN:
                del self._buffer[:1]
            if self._buffer:
                return True
            if self._is_stopping():
                return False
            if time.monotonic() > until:
                raise SilentError(f"no message for {IDLE_SECONDS:g} s")
            try:
                if not self._receive(time.monotonic() + _LOOK_SECONDS):
                    return False
            except SilentError:
                continue

    def _receive(self, deadline: float) -> bool:
        """Read what is there; false at the end of the stream. Raises ``SilentError`` at the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise SilentError(f"a message that takes more than {MESSAGE_SECONDS:g} s")
        self._connection.settimeout(left)
        try:
            part = self._connection.recv(_PART)
        except (TimeoutError, ssl.SSLWantReadError):
            raise SilentError(f"a message that takes more than {MESSAGE_SECONDS:g} s") from None
        self._buffer += part
        return bool(part)
