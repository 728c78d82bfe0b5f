"""Sessions of the dashboard, under the hash of their token: nobody who reads the ledger can use one."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.tables import session


@dataclass(frozen=True, kw_only=True)
class Session:
    """A login; times in seconds since 1970 UTC."""

    user: str
    stamp: str
    """Changes with the user's password and role; the session then counts no more."""
    began_at: float
    seen_at: float
    """When the user last asked for a page."""
    ended_at: float | None
    """When the user logged out."""


def begin_session(connection: sa.Connection, token_hash: str, user: str, stamp: str, at: float) -> None:
    """Record a login."""
    row = {"token_hash": token_hash, "user": user, "stamp": stamp, "began_at": at, "seen_at": at}
    connection.execute(sa.insert(session).values(row))


def session_of(connection: sa.Connection, token_hash: str) -> Session | None:
    """Return a session, also an ended one; ``None``: there never was one, or it is purged."""
    columns = (session.c[name] for name in Session.__dataclass_fields__)
    row = connection.execute(sa.select(*columns).where(session.c.token_hash == token_hash)).one_or_none()
    return None if row is None else Session(**row._mapping)  # noqa: SLF001 - public name of SQLAlchemy


def mark_seen(connection: sa.Connection, token_hash: str, at: float) -> None:
    """Record that the user has asked for a page."""
    connection.execute(sa.update(session).where(session.c.token_hash == token_hash).values(seen_at=at))


def end_session(connection: sa.Connection, token_hash: str, at: float) -> None:
    """End a session, in every process; it stays as proof that its browser was logged in."""
    connection.execute(sa.update(session).where(session.c.token_hash == token_hash).values(ended_at=at))


def purge_sessions(connection: sa.Connection, before: float) -> None:
    """Remove sessions that began before this time."""
    connection.execute(sa.delete(session).where(session.c.began_at < before))
