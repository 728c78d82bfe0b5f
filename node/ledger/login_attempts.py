"""Failed attempts to log in, by name and origin, and how long each origin has to wait before the next one.

They are in the ledger: a restart resets nothing, and several processes count together. Guesses at one name from ever
other origins are delayed together. A known origin, from which the name got in before, has its own delays only: nobody
is kept out by the guesses of others.
"""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.engine import insert_new
from node.ledger.tables import login_attempt
from node.retry_delay import retry_delay

FREE, FREE_OF_ALL = 5, 20
"""Attempts without a delay: of one origin, and of all origins of a name that are not known."""
FIRST_SECONDS, MAX_SECONDS = 1.0, 60.0
"""Delays after them: 1 s, 2 s, 4 s ... 60 s."""
FORGIVEN_SECONDS = 3600.0
"""Attempts that are older do not count."""
REMEMBERED_SECONDS = 30 * 86400.0
"""An origin is known for this long after a login."""
_ALL = ""
"""In place of an origin: all that are not known."""


def begin_attempt(connection: sa.Connection, name: str, origin: str, at: float, *, is_known: bool = False) -> float:
    """Count an attempt, in a write transaction, before the password is looked at; return 0.

    It counts as failed until ``attempt_succeeded``, so attempts at the same time are like attempts one after the
    other. When it comes too early, return the seconds to wait; it does not count then. ``is_known``: the origin is
    known by other means.
    """
    _purge(connection, at)
    this = _row(name, origin)
    succeeded_at = connection.scalar(sa.select(login_attempt.c.succeeded_at).where(this))
    limits = {origin: FREE}
    if succeeded_at is None and not is_known:
        limits |= {_ALL: FREE_OF_ALL}
    wait = max(_wait(connection, name, counted, free, at) for counted, free in sorted(limits.items()))
    if wait > 0:
        untouched = (login_attempt.c.failures == 0, login_attempt.c.succeeded_at.is_(None))
        connection.execute(sa.delete(login_attempt).where(this, *untouched))
        return wait
    counted = sa.and_(login_attempt.c.name == name, login_attempt.c.origin.in_(limits))
    connection.execute(
        sa.update(login_attempt).where(counted).values(failures=login_attempt.c.failures + 1, last_at=at)
    )
    return 0.0


def attempt_succeeded(connection: sa.Connection, name: str, origin: str, address: str, at: float) -> None:
    """Take back what ``begin_attempt`` has counted, and the failures of ``origin`` before.

    ``address``: where the origin is, if it is a browser, otherwise the same. It is known from now on.
    """
    insert_new(connection, login_attempt, [{"name": name, "origin": address, "failures": 0, "last_at": at}])
    was_known = connection.scalar(sa.select(login_attempt.c.succeeded_at).where(_row(name, address))) is not None
    connection.execute(sa.update(login_attempt).where(_row(name, address)).values(succeeded_at=at))
    if origin != address:
        connection.execute(sa.delete(login_attempt).where(_row(name, origin)))
        return
    connection.execute(sa.update(login_attempt).where(_row(name, origin)).values(failures=0))
    if not was_known:
        others = sa.and_(_row(name, _ALL), login_attempt.c.failures > 0)
        connection.execute(sa.update(login_attempt).where(others).values(failures=login_attempt.c.failures - 1))


def _wait(connection: sa.Connection, name: str, origin: str, free: int, at: float) -> float:
    insert_new(connection, login_attempt, [{"name": name, "origin": origin, "failures": 0, "last_at": at}])
    row = sa.select(login_attempt.c.failures, login_attempt.c.last_at).where(_row(name, origin))
    failures, last_at = connection.execute(row.with_for_update()).one()
    if failures < free or last_at < at - FORGIVEN_SECONDS:
        return 0.0
    delay = retry_delay(failures - free + 1, FIRST_SECONDS, MAX_SECONDS)
    return max(0.0, float(min(last_at, at) + delay - at))  # a clock that was set back makes nobody wait for longer


def _purge(connection: sa.Connection, at: float) -> None:
    old = login_attempt.c.last_at < at - FORGIVEN_SECONDS
    is_known = login_attempt.c.succeeded_at >= at - REMEMBERED_SECONDS
    connection.execute(sa.update(login_attempt).where(old, is_known, login_attempt.c.failures > 0).values(failures=0))
    connection.execute(sa.delete(login_attempt).where(old, sa.or_(login_attempt.c.succeeded_at.is_(None), ~is_known)))


def _row(name: str, origin: str) -> sa.ColumnElement[bool]:
    return sa.and_(login_attempt.c.name == name, login_attempt.c.origin == origin)
