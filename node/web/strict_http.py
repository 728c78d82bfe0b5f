"""HTTP/1.1 as browsers and proxies speak it: each request within a time, and none that can be read in two ways.

The parser behind it (h11) is lenient where RFC 9112 allows it, and a proxy may be lenient in another way: what one of
them takes for the body of a request is the next request to the other (request smuggling). Such heads are refused
before the parser sees them.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 20.0
"""From the first byte of a request, or from the beginning of its connection, to its last byte, or to the next piece of
a body that the page waits for."""
PIECE_BYTES = 1 << 20
"""Of a body for which there is more time: a file that somebody uploads may take minutes."""
RESPONSE_SECONDS = 300.0
"""From the end of a request until the browser has taken the response."""
_CHUNKED = re.compile(rb"(?i:transfer-encoding):[ \t]*(?i:chunked)[ \t]*")
LARGEST_HEAD = 32 * 1024
"""Bytes."""
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(rb"[0-9]{1,10}[ \t]*")


class StrictHttp(H11Protocol):
    """One connection.

    ``request.state.cut_off()`` ends it at once: what has begun as a response and cannot be completed is no whole one.
    """

    _timer: asyncio.TimerHandle | None = None
    _head = b""
    """Of the request that is being received, until it is complete."""
    _of_piece = 0
    """Bytes since the time was last extended."""
    takes_chunks = False
    """Whether a request may have Transfer-Encoding: chunked, in place of Content-Length."""
    body_seconds = REQUEST_SECONDS
    """From one piece of a body to the next one that the page waits for."""
    response_seconds = RESPONSE_SECONDS

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "cut_off": transport.abort}  # request.state of starlette
        self._limit(REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Give the parser heads that are complete and unambiguous, and their bodies."""
        if self.conn.their_state is h11.IDLE:
            self._unset_keepalive_if_required()
            if self._timer is None:
                self._limit(REQUEST_SECONDS)
            self._head += data
            end = self._head.find(_END, max(len(self._head) - len(data) - len(_END), 0))
            if max(end, len(self._head) if end < 0 else 0) > LARGEST_HEAD:
                self._refuse()
            if end < 0 or self.transport.is_closing():
                return
            data, self._head = self._head, b""
            if not _is_unambiguous(data[:end], takes_chunks=self.takes_chunks):
                self._refuse()
                return
        elif self._is_received():
            self._end_after_response()
            return
        super().data_received(data)
        if self._is_received():
            self._limit(self.response_seconds)
            if self.conn.trailing_data[0]:
                self._end_after_response()
        elif self.conn.their_state is h11.IDLE:
            self._limit(None)
        else:
            self._extend(len(data))

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._limit(None)  # the WebSocket has times of its own
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        if self.conn.their_state is not h11.SEND_BODY:  # else it was answered before its end, which has its time still
            self._limit(None)
        super().on_response_complete()

    def _is_received(self) -> bool:
        return self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)

    def _end_after_response(self) -> None:
        """Answer the request and no other of this connection: browsers send the next one after the response."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _extend(self, received: int) -> None:
        """Give a body that the page still waits for more time, piece by piece."""
        if self.cycle is None or self.cycle.response_complete:
            return
        self._of_piece += received
        if self._of_piece >= PIECE_BYTES:
            self._of_piece = 0
            self._limit(self.body_seconds)

    def _refuse(self) -> None:
        self.send_400_response("Invalid HTTP request received.")

    def _limit(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def _is_unambiguous(head: bytes, *, takes_chunks: bool) -> bool:
    request, *lines = head.split(b"\r\n")
    chunked = [line for line in lines if _CHUNKED.fullmatch(line)]
    fields = [_FIELD.fullmatch(line) for line in lines]
    if not _REQUEST_LINE.fullmatch(request) or not all(fields):
        return False
    names = Counter(field[1].lower() for field in fields if field)
    lengths = [field[2] for field in fields if field and field[1].lower() == b"content-length"]
    return (
        names[b"host"] == 1
        and names[b"transfer-encoding"] == (len(chunked) if takes_chunks and request.endswith(b"1.1") else 0)
        and len(lengths) + len(chunked) <= 1
        and all(_LENGTH.fullmatch(length) for length in lengths)
    )
