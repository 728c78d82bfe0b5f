"""PROXY protocol, version 2: whom a load balancer connects to this node, stated before the first byte of its peer.

Layout: "The PROXY protocol, Versions 1 & 2", section 2.2 (https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")
"""Signature; version and command; address family and transport; bytes that follow."""
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}
"""Of the source, which comes first, by family and transport: TCP over IPv4, TCP over IPv6."""
_PORTS_BYTES = 4
_MOST_BYTES = 4096
"""After the fixed part: addresses and further fields, which are ignored."""


def read_peer_address(connection: socket.socket, seconds: float) -> str:
    """Read the header, and nothing behind it, in at most ``seconds``; return the address of the peer.

    ``""`` when the proxy itself connects (LOCAL), to see whether the node is alive. Raises ``ValueError`` for what is
    no such header of a TCP connection, ``OSError`` when it does not arrive.
    """
    deadline = time.monotonic() + seconds
    signature, command, family, length = _FIXED.unpack(_exactly(connection, _FIXED.size, deadline))
    if signature != SIGNATURE or command not in (_LOCAL, _PROXY):
        raise ValueError("it does not begin with a PROXY protocol header of version 2")
    if length > _MOST_BYTES:
        raise ValueError(f"its PROXY protocol header has {length} bytes, at most {_MOST_BYTES} are read")
    stated = _exactly(connection, length, deadline)
    if command == _LOCAL:
        return ""
    size = _ADDRESS_BYTES.get(family)
    if size is None or length < 2 * size + _PORTS_BYTES:
        raise ValueError(f"its PROXY protocol header (family {family:#04x}) states no peer of a TCP connection")
    return str(ipaddress.ip_address(stated[:size]))


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    taken = bytearray()
    while len(taken) < count:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        received = connection.recv(count - len(taken))
        if not received:
            raise ConnectionError("it was closed before its PROXY protocol header was complete")
        taken += received
    return bytes(taken)
