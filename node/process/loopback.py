"""Servers on the loopback interface of this machine."""

from __future__ import annotations

import socket
import urllib.request

HERE = "127.0.0.1"
"""This machine, for itself alone."""


def get(url: str) -> bytes:
    """Return the answer of a server on this machine to GET, without the proxy that the environment may name.

    Raises ``OSError`` when it does not answer, or with an error.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60.0) as response:
        return bytes(response.read())


def free_port() -> int:
    """Return a TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])
