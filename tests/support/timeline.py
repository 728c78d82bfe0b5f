"""The timeline of the ledger in the words that users read."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.tables import event
from node.operate.event_text import event_text


class Line(NamedTuple):
    """One event."""

    what: str
    detail: str


def timeline(ledger: sa.Engine | sa.Connection, job_id: str | None = None) -> list[Line]:
    """Every event, or those of one job, the oldest first."""
    query = sa.select(event).order_by(event.c.id)
    if job_id is not None:
        query = query.where(event.c.job_id == job_id)
    if isinstance(ledger, sa.Connection):
        return [Line(*event_text(dict(row))) for row in ledger.execute(query).mappings()]
    with ledger.connect() as connection:
        return timeline(connection, job_id)
