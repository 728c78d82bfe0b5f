"""Turns at something that is used by one request at a time, in rotation between clients."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager

import anyio

_LOOK_SECONDS = 0.5
"""Between two looks whether somebody still waits for a request."""


class ClientTurns:
    """One turn at a time; after each one the next client has its turn, however many requests another one has.

    Requests of one client have their turns in the order in which they came. For the tasks of one event loop.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[anyio.Event]] = {}
        """By client; the client at the front has the next turn."""
        self._is_taken = False

    def waiting(self, client: Hashable) -> int:
        """Return how many requests of a client wait for their turn."""
        return len(self._waiting.get(client, ()))

    @asynccontextmanager
    async def turn(self, client: Hashable, look: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Wait for a turn, which lasts until the end of the ``with`` block.

        ``look`` is called when the turn comes and now and then before; what it raises ends the waiting.
        """
        if self._is_taken:
            await self._wait(client, look)
        self._is_taken = True
        try:
            await look()
            yield
        finally:
            self._give_next()

    async def _wait(self, client: Hashable, look: Callable[[], Awaitable[None]]) -> None:
        given = anyio.Event()
        self._waiting.setdefault(client, deque()).append(given)
        try:
            while not given.is_set():
                with anyio.move_on_after(_LOOK_SECONDS):
                    await given.wait()
                if not given.is_set():
                    await look()
        except BaseException:  # also a request that is cancelled
            if given.is_set():
                self._give_next()
            else:
                self._leave(client, given)
            raise

    def _leave(self, client: Hashable, given: anyio.Event) -> None:
        self._waiting[client].remove(given)
        if not self._waiting[client]:
            del self._waiting[client]

    def _give_next(self) -> None:
        """Give the turn to the first request of the next client; this client then comes last."""
        self._is_taken = bool(self._waiting)
        if self._is_taken:
            client = next(iter(self._waiting))
            requests = self._waiting.pop(client)
            requests.popleft().set()
            if requests:
                self._waiting[client] = requests
