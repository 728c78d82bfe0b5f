"""Series without a decision that wait for nothing: the router is down, or fails on them each time."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.states import SeriesState
from node.ledger.tables import series


class Undecided(NamedTuple):
    """A series that should be complete."""

    study_instance_uid: str
    series_instance_uid: str
    last_at: float
    """When its last image came."""


def undecided_series(connection: sa.Connection, before: float) -> list[Undecided]:
    """Series whose last image, and the last deadline of whose doubts, were ``before`` this time.

    A doubt without a deadline, such as an open association, explains the waiting.
    """
    rows = connection.execute(
        sa.select(*series.c["study_instance_uid", "series_instance_uid", "last_at", "doubts"])
        .where(series.c.state == SeriesState.RECEIVING, series.c.last_at < before)
        .order_by(series.c.last_at)
    )
    return [
        Undecided(row.study_instance_uid, row.series_instance_uid, row.last_at)
        for row in rows
        if all(doubt["until"] is not None and doubt["until"] < before for doubt in row.doubts or ())
    ]
