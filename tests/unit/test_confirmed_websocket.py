"""What the service holds in memory for a client that sends pings and reads nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState
from wsproto import WSConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import Ping

from node.dicomweb.confirmed_websocket import ConfirmedWebSocket


class _Written:
    """A transport that is asked for nothing else."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.answers.append(data[-1:])

    @staticmethod
    def is_closing() -> bool:
        return False


class _Open(WSConnection):
    state = ConnectionState.OPEN

    def send(self, event: Any) -> bytes:
        return bytes(event.payload)


async def _app(_scope: Any, _receive: Any, _send: Any) -> None: ...


def test_a_client_that_reads_no_answers_gets_that_to_its_latest_ping() -> None:
    loop = asyncio.new_event_loop()
    websocket, transport = ConfirmedWebSocket(uvicorn.Config(_app), ServerState(), {}, loop), _Written()
    websocket.transport, websocket.conn = transport, _Open(ConnectionType.SERVER)  # type: ignore[assignment]
    websocket.handle_ping(Ping(b"1"))
    websocket.pause_writing()
    for payload in (b"2", b"3", b"4"):
        websocket.handle_ping(Ping(payload))
    assert transport.answers == [b"1"]
    websocket.resume_writing()
    assert transport.answers == [b"1", b"4"]
    websocket.resume_writing()
    assert transport.answers == [b"1", b"4"]
    loop.close()
