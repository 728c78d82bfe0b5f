"""The clock of the ledger: the one that all machines share."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.engine import now


def ledger_clock(connection: sa.Connection) -> float:
    """Return now, in seconds since 1970 UTC: by PostgreSQL's own clock, on SQLite by that of the machine.

    What is compared with times of other machines is compared with this.
    """
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)
    return now()
