"""The time in which an HTTP server may answer: as a whole, where httpx bounds each read of its socket alone.

A server that sends a byte of its headers now and then would hold the thread that waits for it for days.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

_SLOWEST_BYTES_PER_SECOND = 1000.0
"""Slower answers end: their bytes earn less time than they take."""


def bound_answers(client: httpx.Client) -> httpx.Client:
    """Have a client wait for the bytes of an answer for its timeout in all, and longer only as they come.

    An answer of N bytes gets the timeout of its request and N / 1000 s of waiting. A slower one is a
    ``httpx.ReadTimeout``, whether its head or its body is.
    """
    for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001 - node.compat
        if isinstance(transport, httpx.HTTPTransport):
            pool = transport._pool  # noqa: SLF001
            pool._network_backend = _Network(pool._network_backend)  # noqa: SLF001
    return client


class _Network(httpcore.NetworkBackend):
    def __init__(self, network: httpcore.NetworkBackend) -> None:
        self._network = network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._network.connect_tcp(host, port, timeout, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    """One connection; what it waits for an answer begins with each request."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._earned_seconds = 0.0
        """By the bytes of the answer, less the time for which it was waited."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Raise ``httpcore.ReadTimeout`` when the time of the answer is over."""
        if timeout is None:
            return self._stream.read(max_bytes, None)
        left = timeout + min(self._earned_seconds, 0.0)
        if left <= 0:
            raise httpcore.ReadTimeout("its answer comes too slowly")
        began = time.monotonic()
        data = self._stream.read(max_bytes, left)
        self._earned_seconds += len(data) / _SLOWEST_BYTES_PER_SECOND - (time.monotonic() - began)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send a part of a request: what comes then is another answer."""
        self._earned_seconds = 0.0
        self._stream.write(buffer, timeout)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()
