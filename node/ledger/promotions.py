"""Promotions: which of two configured pipelines answers, the champion or the candidate that is tried beside it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.errors import NodeError
from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.tables import job, promotion


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A candidate that answers, or once did, in the place of a champion."""

    champion: str
    candidate: str
    promoted_at: float
    who: str
    reason: str
    rolled_back_at: float | None
    """``None``: it answers."""


def promotions(connection: sa.Connection) -> list[Promotion]:
    """All that ever were, the latest first."""
    rows = connection.execute(sa.select(promotion).order_by(promotion.c.promoted_at.desc())).mappings()
    return [Promotion(**row) for row in rows]


def active_promotions(connection: sa.Connection) -> list[Promotion]:
    """Those whose candidate answers; one for each champion."""
    return [promoted for promoted in promotions(connection) if promoted.rolled_back_at is None]


def promote(connection: sa.Connection, champion: str, candidate: str, *, who: str, reason: str) -> None:
    """Let a candidate answer for series that are decided on from now on.

    Raises ``NodeError`` when it does already.
    """
    if any(
        (promoted.champion, promoted.candidate) == (champion, candidate) for promoted in active_promotions(connection)
    ):
        raise NodeError(f"{candidate!r} answers for {champion!r} already")
    at = ledger_clock(connection)
    _end(connection, champion, at)
    values = {"promoted_at": at, "who": who, "reason": reason, "rolled_back_at": None}
    this = {"champion": champion, "candidate": candidate}
    if not insert_new(connection, promotion, [this | values]):
        of_both = sa.and_(promotion.c.champion == champion, promotion.c.candidate == candidate)
        connection.execute(sa.update(promotion).where(of_both).values(**values))


def roll_back(connection: sa.Connection, champion: str) -> Promotion:
    """Let a champion answer again for series that are decided on from now on.

    Raises ``NodeError`` when nothing answers in its place.
    """
    ended = next((promoted for promoted in active_promotions(connection) if promoted.champion == champion), None)
    if ended is None:
        raise NodeError(f"no candidate answers for {champion!r}")
    _end(connection, champion, ledger_clock(connection))
    return ended


def _end(connection: sa.Connection, champion: str, at: float) -> None:
    active = sa.and_(promotion.c.champion == champion, promotion.c.rolled_back_at.is_(None))
    connection.execute(sa.update(promotion).where(active).values(rolled_back_at=at))


def answered_before(connection: sa.Connection, study: str, series_uid: str) -> set[str]:
    """Pipelines whose results on a series, of any generation, are sent."""
    query = sa.select(job.c.pipeline).where(
        job.c.study_instance_uid == study, job.c.series_instance_uid == series_uid, job.c.shadow.is_(None)
    )
    return set(connection.scalars(query))
