"""Clock steps: recorded times lie in the future after the clock is set back, and must not be waited for."""

from __future__ import annotations

import time

import sqlalchemy as sa

from node.ledger.clock import LedgerTime
from node.ledger.engine import begin_immediate
from node.ledger.tables import candidate, instance, series

AHEAD_SECONDS = 60.0
"""What happened so far ahead of the clock happened before the clock was set back. Machines may differ by less."""


class Steady:
    """Seconds since 1970 UTC as they would be if nobody had set the clock since ``at``; suspended machines age too."""

    def __init__(self, at: float) -> None:
        self._offset = at - time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> float:
        return self._offset + time.clock_gettime(time.CLOCK_BOOTTIME)


def is_ahead(column: sa.Column[float]) -> sa.ColumnElement[bool]:
    """The moment of something that has happened lies in the future: the clock was set back since."""
    return column > LedgerTime() + AHEAD_SECONDS


def passed(column: sa.Column[float], before: float) -> sa.ColumnElement[bool]:
    """The moment of something that has happened is ``before`` or earlier, or ahead."""
    return sa.or_(column <= before, is_ahead(column))


def pull_back(engine: sa.Engine, at: float) -> None:
    """Images that seem to come in the future came at ``at``, and series that seem complete then are so since ``at``."""
    limit = at + AHEAD_SECONDS
    arriving, waiting = series.c.last_at > limit, candidate.c.complete_at > limit
    with engine.connect() as connection:
        ahead = sa.union_all(
            sa.select(series.c.study_instance_uid).where(arriving),
            sa.select(candidate.c.study_instance_uid).where(waiting),
        )
        if connection.execute(ahead.limit(1)).first() is None:
            return
    with begin_immediate(engine) as connection:
        of_these = sa.exists().where(
            arriving,
            series.c.study_instance_uid == instance.c.study_instance_uid,
            series.c.series_instance_uid == instance.c.series_instance_uid,
        )
        connection.execute(sa.update(instance).where(instance.c.received_at > limit, of_these).values(received_at=at))
        connection.execute(sa.update(series).where(arriving).values(last_at=at))
        connection.execute(sa.update(candidate).where(waiting).values(complete_at=at))
