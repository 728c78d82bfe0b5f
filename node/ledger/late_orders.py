"""What an order does to series that were decided before it came."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from node.config.order_values import PREFIX, URGENT
from node.ledger.events import EventKind, record_study_event
from node.ledger.order_keys import OrderState
from node.ledger.orders import Order, series_of_order
from node.ledger.series import reopen_ignored
from node.ledger.tables import LATEST_DECISION, candidate, decision, series

Key = tuple[str, str]
"""Study and Series Instance UID."""


def late_series(connection: sa.Connection, order: Order) -> list[Key]:
    """Return the series that an order is about and that were complete before its last message."""
    return [(study, uid) for study, uid, read_at in series_of_order(connection, order) if read_at < order.updated_at]


def apply_late_order(
    connection: sa.Connection, order: Order, of: Sequence[Key], hurried: Collection[str], at: float
) -> int:
    """Have series decided again that a rule might have taken with the order; return how many.

    These are series that were ignored after a rule asked for a value of the order. What waits for the rest of its study
    is STAT from now on where the order is, by the rules ``hurried``. The timeline of each study says what was done.
    """
    if order.state == OrderState.CANCELED:
        for study in sorted({study for study, _ in of}):
            _record(connection, order, study, series_again=0, at=at)
        return 0
    again: dict[str, int] = {}
    for study, uid in of:
        reopened = _asked_for_order(connection, study, uid) and reopen_ignored(connection, study, uid, at)
        again[study] = again.get(study, 0) + int(reopened)
        if order.values.priority in URGENT and hurried:
            here = sa.and_(candidate.c.study_instance_uid == study, candidate.c.series_instance_uid == uid)
            waits = sa.and_(candidate.c.decided_at.is_(None), candidate.c.rule.in_(hurried))
            connection.execute(sa.update(candidate).where(here, waits).values(urgent=True))
    for study, number in again.items():
        _record(connection, order, study, series_again=number, at=at)
    return sum(again.values())


def _record(connection: sa.Connection, order: Order, study: str, *, series_again: int, at: float) -> None:
    record_study_event(
        connection,
        EventKind.LATE_ORDER,
        at=at,
        study_instance_uid=study,
        priority=order.values.priority,
        procedure_code=order.values.procedure_code,
        canceled=order.state == OrderState.CANCELED,
        series=series_again,
    )


def _asked_for_order(connection: sa.Connection, study: str, uid: str) -> bool:
    """Whether a rule asked for a value of an order when the series was decided on last."""
    query = sa.select(decision.c.trace).join(series, LATEST_DECISION)
    trace = connection.scalar(query.where(series.c.study_instance_uid == study, series.c.series_instance_uid == uid))
    return any(condition["attribute"].startswith(PREFIX) for entry in trace or () for condition in entry["conditions"])
