"""Association endings: an aborted sender may have had more images."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.refusals import ASSOCIATIONS_OF_SERIES
from node.ledger.states import AssociationEnding, EndingPoint
from node.ledger.tables import association

BROKEN = (
    AssociationEnding.ABORTED,
    AssociationEnding.LOST,
    AssociationEnding.TIMED_OUT,
    AssociationEnding.STOPPED,
    AssociationEnding.KILLED,
)
"""Endings after which the sender may have had more images."""
_LATER = association.alias()
_CAME_BACK = sa.exists().where(
    _LATER.c.calling_ae == association.c.calling_ae,
    _LATER.c.id.in_(ASSOCIATIONS_OF_SERIES),
    _LATER.c.ending.in_((AssociationEnding.RELEASED, AssociationEnding.AS_USUAL)),
    _LATER.c.opened_at >= association.c.closed_at,
)
_BROKEN_OFF = (
    sa.select(association)
    .where(association.c.id.in_(ASSOCIATIONS_OF_SERIES), association.c.ending.in_(BROKEN), ~_CAME_BACK)
    .order_by(association.c.closed_at)
)


class Ending(NamedTuple):
    """How one association ended, and during which message."""

    how: AssociationEnding
    amid: EndingPoint | None = None


class BrokenOff(NamedTuple):
    """An association that sent images of a series and was not released."""

    calling_ae: str
    ending: Ending
    at: float


def broken_off(connection: sa.Connection, study_uid: str, series_uid: str) -> list[BrokenOff]:
    """Return associations that sent images of a series and aborted, and whose caller has not resumed.

    It has when a later association of the same caller brought images of the series, new or again, and ended well.
    """
    return [
        BrokenOff(
            row.calling_ae,
            Ending(AssociationEnding(row.ending), EndingPoint(row.ended_amid) if row.ended_amid else None),
            row.closed_at,
        )
        for row in connection.execute(_BROKEN_OFF, {"study": study_uid, "series": series_uid})
    ]


def always_breaking_off(connection: sa.Connection, least: int, share: float) -> list[tuple[str, int, int]]:
    """Callers that end their associations between two messages and without a release: title, how many of how many.

    At least ``least`` associations that brought images, and this ``share`` of them.
    """
    ended = sa.func.count()
    broken = ended.filter(
        association.c.ending.in_((AssociationEnding.ABORTED, AssociationEnding.LOST)),
        association.c.ended_amid.is_(None),
    )
    query = (
        sa.select(association.c.calling_ae, broken.label("broken"), ended.label("ended"))
        .where(association.c.ending.is_not(None))
        .group_by(association.c.calling_ae)
        .having(broken >= least, broken >= share * ended)
        .order_by(association.c.calling_ae)
    )
    return [(row.calling_ae, row.broken, row.ended) for row in connection.execute(query)]
