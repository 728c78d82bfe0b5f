"""Poolers between the node and PostgreSQL: sessions must stay whole, because locks and limits belong to them."""

from __future__ import annotations

import sqlalchemy as sa

_TRIES = 3


def splits_sessions(engine: sa.Engine) -> bool:
    """Whether transactions of one connection run in several sessions of the server, as with PgBouncer by transaction.

    A lock of a session would then be held by nobody, and its limits would be those of somebody else.
    """
    if engine.dialect.name != "postgresql":
        return False
    with engine.connect() as first, engine.connect() as second:
        for _ in range(_TRIES):
            session, other = _session(first), _session(second)
            second.commit()
            first.commit()  # whose session a pooler gives away next
            again = _session(second)
            second.commit()
            if again != other or _session(first) != session:
                return True
            first.commit()
    return False


def _session(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)
