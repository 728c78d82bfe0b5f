"""Secrets of the node that outlive every process; the table ``secret``."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.tables import secret


def keep_secret(connection: sa.Connection, name: str, value: str) -> tuple[str, bool]:
    """Keep a secret unless there is one of this name; return the one that counts, and whether it is new."""
    is_new = bool(insert_new(connection, secret, [{"name": name, "value": value, "made_at": ledger_clock(connection)}]))
    return str(connection.scalar(sa.select(secret.c.value).where(secret.c.name == name))), is_new


def stored_secret(connection: sa.Connection, name: str) -> str | None:
    """Return a secret; ``None``: there is none of this name."""
    return connection.scalar(sa.select(secret.c.value).where(secret.c.name == name))


def destroy_secret(connection: sa.Connection, name: str) -> bool:
    """Remove a secret; ``False``: there is none of this name."""
    return bool(connection.execute(sa.delete(secret).where(secret.c.name == name)).rowcount)
