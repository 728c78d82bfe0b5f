"""Frames of the copy service: what a receiver sends to another machine while it writes an image itself.

A frame is a letter, the length of its body (4 bytes, big-endian) and the body. On one TLS connection each image is
``BEGIN`` (id of the receiver), any number of ``DATA``, then ``KEEP`` (JSON: Study, Series and SOP Instance UID, digest)
or ``DISCARD``. Only ``KEEP`` is answered: ``KEPT`` (JSON: path and digest of the file that is
durable now), ``REFUSED`` or ``FULL`` (the reason; ``FULL``: no image can be stored now).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

BEGIN, DATA, KEEP, DISCARD = b"B", b"D", b"K", b"X"
KEPT, REFUSED, FULL = b"k", b"r", b"f"
HEADER = struct.Struct("!cI")
LONGEST_DATA = 1 << 20
LONGEST_CONTROL = 4096
"""Bytes of the body of any other frame."""


class Frame(NamedTuple):
    """A frame without data."""

    kind: bytes
    body: bytes


def send(connection: socket.socket, kind: bytes, parts: Sequence[bytes | memoryview] = ()) -> None:
    """Send a frame. Raises ``OSError``."""
    connection.sendall(b"".join((HEADER.pack(kind, sum(map(len, parts))), *parts)))


def read_header(connection: socket.socket) -> tuple[bytes, int] | None:
    """Return letter and length of the next frame; ``None`` when the other side has closed between two frames.

    Raises ``OSError``; ``ValueError`` for a length beyond the limits.
    """
    encoded = bytearray(HEADER.size)
    first = connection.recv_into(encoded)
    if not first:
        return None
    fill(connection, memoryview(encoded)[first:])
    kind, length = HEADER.unpack(encoded)
    if length > (LONGEST_DATA if kind == DATA else LONGEST_CONTROL):
        raise ValueError(f"frame of {length} bytes")
    return kind, length


def read_frame(connection: socket.socket) -> Frame:
    """Return the next frame, which has no data. Raises ``OSError``, ``ValueError``."""
    header = read_header(connection)
    if header is None:
        raise ConnectionError("closed by the other side")
    return Frame(header[0], read_body(connection, header[1]))


def read_body(connection: socket.socket, length: int) -> bytes:
    """Return a short body. Raises ``OSError``."""
    body = bytearray(length)
    fill(connection, memoryview(body))
    return bytes(body)


def fill(connection: socket.socket, view: memoryview) -> None:
    """Read as many bytes as ``view`` has. Raises ``OSError``."""
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("closed within a frame")
        view = view[count:]
