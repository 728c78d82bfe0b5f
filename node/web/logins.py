"""Logins with name and password: limited before any password is hashed, delayed after failures, never locked."""

from __future__ import annotations

from collections import Counter
from math import ceil
from pathlib import Path

import anyio
import sqlalchemy as sa
from starlette.exceptions import HTTPException

from node.addresses import network_of
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.login_attempts import attempt_succeeded, begin_attempt
from node.translation import gettext
from node.web.sessions import Sessions
from node.web.users import User, matches, read_users

AT_ONCE = 2
"""Passwords hashed at the same time: each takes 32 MiB and a core."""
WAITING, WAITING_OF_ADDRESS = 32, 4
"""Logins that may wait for their turn."""


class Logins:
    """Checks names and passwords."""

    def __init__(self, users: Path, engine: sa.Engine, sessions: Sessions) -> None:
        self._users = users
        self._engine = engine
        self._sessions = sessions
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        self._waiting: Counter[str] = Counter()

    async def log_in(self, name: str, password: str, address: str, token: str) -> User | None:
        """Return the user; ``None`` when name or password is wrong. ``token``: of the browser.

        Raises ``HTTPException`` with status 429 when this origin has to wait first, with 503 when too many log in.
        """
        origin = _network(address)
        if self._waiting.total() >= WAITING or self._waiting[origin] >= WAITING_OF_ADDRESS:
            raise HTTPException(503, gettext("Too many logins at once. Try again."), {"Retry-After": "1"})
        self._waiting[origin] += 1
        try:
            return await anyio.to_thread.run_sync(self._check, name, password, origin, token, limiter=self._turns)
        finally:
            self._waiting[origin] -= 1
            self._waiting += Counter()  # removes what is zero

    def _check(self, name: str, password: str, origin: str, token: str) -> User | None:
        name = name[:64]
        browser = self._sessions.browser_of(token, name)
        with begin_immediate(self._engine) as connection:
            seconds = begin_attempt(
                connection, name, browser or origin, ledger_clock(connection), is_known=bool(browser)
            )
        if seconds:
            wait = ceil(seconds)
            raise HTTPException(
                429, gettext("Too many failed logins. Wait {wait} s.", wait=wait), {"Retry-After": str(wait)}
            )
        user = read_users(self._users).get(name)
        if not matches(user, password) or user is None or user.is_expired:
            return None
        with begin_immediate(self._engine) as connection:
            attempt_succeeded(connection, name, browser or origin, origin, ledger_clock(connection))
        return user


def _network(address: str) -> str:
    """Return the address, or the network of one of IPv6; what is no address as it is, such as that of a test."""
    try:
        return network_of(address)
    except ValueError:
        return address
