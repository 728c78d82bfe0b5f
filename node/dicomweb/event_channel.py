"""Send Event Report (PS3.18 8.10.5, 11.13): events of workitems to one subscriber, over one WebSocket.

The ledger has what a subscriber knows; what differs is sent in portions, and recorded when the client has confirmed
them. When the connection breaks, the next one gets the rest, and what was not confirmed a second time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from node.actor import surviving
from node.dicomweb.confirmed_websocket import ConfirmedWebSocket
from node.ledger.clock import clock_of
from node.ledger.leadership import Leadership
from node.ledger.workitem_subscriptions import Subscriber, subscriber
from node.workitems.event_reports import event_report_json
from node.workitems.pending_reports import Pending, PendingReports

_AT_ONCE = 20
"""Workitems whose reports wait for one confirmation; no more are in memory."""
_MESSAGE_IDS = 1 << 16
_NORMAL, _POLICY = 1000, 1008
"""Codes of RFC 6455 7.4.1."""
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Times of a connection, in seconds."""

    look: float = 2.0
    """Between two looks for changes."""
    answer: float = 20.0
    """For a client to take a message, and to confirm those that it has taken."""
    idle: float = 20.0
    """Without an event, after which the client is asked whether it is there. As often its token is read again."""


class EventChannel:
    """One connection that was accepted."""

    def __init__(
        self,
        websocket: WebSocket,
        title: str,
        engine: Engine,
        pending: PendingReports,
        *,
        is_authorized: Callable[[], Awaitable[bool]],
        intervals: Intervals,
    ) -> None:
        """``is_authorized``: whether the client still may receive events."""
        self._websocket = websocket
        self._connection = ConfirmedWebSocket.of(websocket.scope)
        self._title = title
        self._engine = engine
        self._pending = pending
        self._is_authorized = is_authorized
        self._intervals = intervals
        self._leadership = Leadership(engine, f"UPS events over a WebSocket to {title}")
        self._tasks = anyio.create_task_group()
        self._messages = 0
        self._has_ended = anyio.Event()

    async def run(self, former: EventChannel | None) -> None:
        """Tell the subscriber of workitems until one of both ends the connection, in place of its ``former`` one."""
        try:
            if former is not None:
                await former._replace()
            async with self._tasks:
                self._tasks.start_soon(self._listen)
                self._tasks.start_soon(self._report)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._leadership.release)
            self._has_ended.set()

    async def _replace(self) -> None:
        """End the connection in favour of a new one of the same subscriber."""
        self._tasks.cancel_scope.cancel()
        await self._close(_NORMAL, "another connection of this AE title was opened")
        await self._has_ended.wait()

    async def _listen(self) -> None:
        """Read until the client or the server ends the connection; nothing that a client says counts."""
        while (await self._websocket.receive())["type"] != "websocket.disconnect":
            pass
        self._tasks.cancel_scope.cancel()

    async def _report(self) -> None:
        with suppress(WebSocketDisconnect):
            await self._report_changes()
        self._tasks.cancel_scope.cancel()

    async def _report_changes(self) -> None:
        """Return when the client does not confirm, or may not receive events any more."""
        silent_since = asked_at = anyio.current_time()
        while True:
            if anyio.current_time() - asked_at >= self._intervals.idle:  # also when events never end
                asked_at = anyio.current_time()
                if not await self._is_authorized():
                    await self._close(_POLICY, "the client may not receive events any more")
                    return
            reported = await self._report_portion()
            if reported is None:
                self._connection.abort()
                return
            if reported:
                silent_since = anyio.current_time()
                continue
            if anyio.current_time() - silent_since >= self._intervals.idle:
                silent_since = anyio.current_time()
                if not await self._connection.is_confirmed(self._intervals.answer):
                    self._connection.abort()
                    return
            await anyio.sleep(self._intervals.look)

    async def _report_portion(self) -> int | None:
        """Return of how many workitems the subscriber was told; ``None``: it does not answer."""
        of, pending = await run_in_threadpool(self._look)
        for workitem in pending:
            for report in workitem.reports:
                self._messages = (self._messages + 1) % _MESSAGE_IDS
                text = event_report_json(workitem.watch.uid, report, self._messages)
                with anyio.move_on_after(self._intervals.answer) as sending:
                    await self._websocket.send_text(text)
                if sending.cancelled_caught:
                    return None
        if not pending or of is None:
            return 0
        if not await self._connection.is_confirmed(self._intervals.answer):
            return None
        return await run_in_threadpool(self._record, of, pending)

    def _look(self) -> tuple[Subscriber | None, list[Pending]]:
        with surviving(f"UPS events for {self._title}"):
            if not self._leadership.is_ours():  # the former connection, to another process, has not ended yet
                return None, []
            with self._engine.connect() as connection:
                of = subscriber(connection, self._title)
            if of is not None and of.websocket:
                return of, self._pending.of(of, clock_of(self._engine), _AT_ONCE)
        return None, []

    def _record(self, of: Subscriber, pending: list[Pending]) -> int:
        recorded = 0
        with surviving(f"UPS events for {self._title}"):
            for workitem in pending:
                self._pending.record(of, workitem)
                recorded += 1
        return recorded

    async def _close(self, code: int, reason: str) -> None:
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True) as closing:
            try:
                await self._websocket.close(code, reason)
            except (RuntimeError, WebSocketDisconnect):  # it has ended meanwhile
                return
        if closing.cancelled_caught:
            self._connection.abort()
