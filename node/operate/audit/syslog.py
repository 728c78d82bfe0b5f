"""RFC 5424 syslog over UDP (RFC 5426) or TLS (RFC 5425), as PS3.15 A.6 and A.7 require."""

from __future__ import annotations

import os
import platform
import socket
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

from node.errors import PlatformError

_PRIORITY = 10 * 8 + 5
"""Facility 10 (security/authorization), severity 5 (notice): PS3.15 A.6."""
_SECONDS = 10.0
_PORTS = {"udp": 514, "tls": 6514}


class Syslog:
    """Sends audit messages to ``[audit] syslog``; connects again when the server went away."""

    def __init__(self, url: str, ca: str, name: str) -> None:
        parts = urlsplit(url)
        self._url, self._ca, self._name = url, ca, name
        self._kind = parts.scheme
        self._address = (parts.hostname or "", parts.port or _PORTS[parts.scheme])
        self._socket: socket.socket | None = None

    def send(self, message: str, at: float) -> None:
        """One message. Raises ``PlatformError`` when it cannot be sent; it is to be sent again then."""
        stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = f"<{_PRIORITY}>1 {stamp} {platform.node() or '-'} {self._name} {os.getpid()} IHE+RFC-3881 -"
        frame = f'{head} \ufeff<?xml version="1.0" encoding="UTF-8"?>{message}'.encode()
        try:
            if self._socket is None:
                self._socket = self._connect()
            if self._kind == "udp":
                self._socket.send(frame)
            else:
                self._socket.sendall(b"%d " % len(frame) + frame)
        except OSError as error:
            self.close()
            raise PlatformError(f"[audit] syslog {self._url}: {error}; check address, port and certificate") from error

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _connect(self) -> socket.socket:
        if self._kind == "udp":
            family, kind, _, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
            sender = socket.socket(family, kind)
            sender.connect(address)
            return sender
        plain = socket.create_connection(self._address, timeout=_SECONDS)
        context = ssl.create_default_context(cafile=self._ca or None)
        try:
            return context.wrap_socket(plain, server_hostname=self._address[0])
        except OSError:
            plain.close()
            raise
