"""Failed attempts to log in, by name and origin, and how long each origin has to wait before the next one.

They are in the ledger: a restart resets nothing, and several processes count together.
"""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.engine import insert_new
from node.ledger.tables import login_attempt
from node.retry_delay import retry_delay

FREE = 5
"""Attempts without a delay."""
FIRST_SECONDS, MAX_SECONDS = 1.0, 60.0
"""Delays after them: 1 s, 2 s, 4 s ... 60 s."""
FORGIVEN_SECONDS = 3600.0
"""Attempts that are older do not count."""


def begin_attempt(connection: sa.Connection, name: str, origin: str, at: float) -> float:
    """Count an attempt, in a write transaction, before the password is looked at; return 0.

    It counts as failed until ``attempt_succeeded``, so attempts at the same time are like attempts one after the
    other. When it comes too early, return the seconds to wait; it does not count then.
    """
    connection.execute(sa.delete(login_attempt).where(login_attempt.c.last_at < at - FORGIVEN_SECONDS))
    insert_new(connection, login_attempt, [{"name": name, "origin": origin, "failures": 0, "last_at": at}])
    this = _row(name, origin)
    failures, last_at = connection.execute(
        sa.select(login_attempt.c.failures, login_attempt.c.last_at).where(this).with_for_update()
    ).one()
    if failures >= FREE:
        delay = retry_delay(failures - FREE + 1, FIRST_SECONDS, MAX_SECONDS)
        wait = min(last_at, at) + delay - at  # a clock that was set back makes nobody wait for longer
        if wait > 0:
            return float(wait)
    connection.execute(sa.update(login_attempt).where(this).values(failures=failures + 1, last_at=at))
    return 0.0


def attempt_succeeded(connection: sa.Connection, name: str, origin: str) -> None:
    """Take back what ``begin_attempt`` has counted, and the failures before."""
    connection.execute(sa.delete(login_attempt).where(_row(name, origin)))


def _row(name: str, origin: str) -> sa.ColumnElement[bool]:
    return sa.and_(login_attempt.c.name == name, login_attempt.c.origin == origin)
