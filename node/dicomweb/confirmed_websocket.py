"""WebSockets (RFC 6455) whose client confirms what it has received, and that end when it does not."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import events

LARGEST_MESSAGE = 4096
"""Bytes of a message of the client, which has nothing to say."""
SETTINGS: dict[str, Any] = {
    "ws_max_size": LARGEST_MESSAGE,
    "ws_per_message_deflate": False,  # nothing that a client sends grows here
    "ws_ping_interval": None,  # a pong answers the latest ping only (5.5.3), which must be the one that is awaited
}
"""Of ``uvicorn.Config``."""
_EXTENSION = "ainode.connection"


class ConfirmedWebSocket(WSProtocol):
    """One connection.

    A client answers a ping when it has read what came before (5.5.2, 5.5.3): nothing else says that a message was
    received, as DICOM has no answer to an event report on a WebSocket.
    """

    _number = 0
    _awaited: asyncio.Future[None] | None = None
    """Completed by the answer to the latest ping."""
    _unanswered: events.Ping | None = None
    """The latest ping of a client that takes no answer now."""

    @staticmethod
    def of(scope: Any) -> ConfirmedWebSocket:
        """Return the connection of an ASGI scope."""
        connection: ConfirmedWebSocket = scope["extensions"][_EXTENSION]
        return connection

    def handle_connect(self, event: events.Request) -> None:
        super().handle_connect(event)
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[_EXTENSION] = self

    def handle_pong(self, event: events.Pong) -> None:
        is_latest = bytes(event.payload) == self._payload
        if is_latest and self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def handle_ping(self, event: events.Ping) -> None:
        """Answer the latest ping only (5.5.3) when the client reads none: answers would fill the memory."""
        if self.writable.is_set():
            super().handle_ping(event)
        else:
            self._unanswered = event

    def resume_writing(self) -> None:
        super().resume_writing()
        event, self._unanswered = self._unanswered, None
        if event is not None and not self.close_sent and not self.transport.is_closing():
            super().handle_ping(event)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._awaited is not None:
            self._awaited.cancel()

    async def is_confirmed(self, seconds: float) -> bool:
        """Ask the client whether it has read everything; ``False``: it does not answer within ``seconds``."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return False
        self._number += 1
        self._awaited = self.loop.create_future()
        self.transport.write(self.conn.send(events.Ping(payload=self._payload)))
        done, _ = await asyncio.wait([self._awaited], timeout=seconds)
        return bool(done) and not self._awaited.cancelled()

    def abort(self) -> None:
        """End the connection although its client takes nothing any more."""
        self.transport.abort()

    @property
    def _payload(self) -> bytes:
        return self._number.to_bytes(4, "big")
