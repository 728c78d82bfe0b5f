"""Orders of the information system, and which of them are about a series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from node.config.order_values import OrderValues
from node.ledger.engine import insert_new
from node.ledger.new_orders import NewOrder, ReportStatus
from node.ledger.order_keys import OrderKeys, OrderState, is_same_patient, issuers_differ, names_same_order
from node.ledger.patient_changes import present_identity
from node.ledger.tables import imaging_order, order_message, series_request
from node.ledger.worklist_orders import WORKLIST, discard_worklist_orders

_KEYS = tuple(OrderKeys.__dataclass_fields__)
_VALUES = ("priority", "procedure_code", "procedure", "reason")
_LOOKED_AT = 200
"""Orders with one of the numbers of a series; a study has a handful."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One row of ``imaging_order``."""

    id: str
    keys: OrderKeys
    values: OrderValues
    state: OrderState
    result_status: str
    received_at: float
    updated_at: float
    of_worklist: bool = False
    """No message brought it: the Modality Worklist has it."""


@dataclass(frozen=True, kw_only=True)
class OrdersOfSeries:
    """The orders that name a series by one of its numbers."""

    active: tuple[Order, ...] = ()
    """Those that count."""
    canceled: tuple[Order, ...] = ()
    of_others: tuple[Order, ...] = ()
    """Of another patient, or of one whose ID is not known: they do not count."""

    @property
    def values(self) -> tuple[OrderValues, ...]:
        """What rules see: the orders that count, and whether there are others that were canceled."""
        canceled = (OrderValues(canceled=True),) if self.canceled else ()
        return (*(order.values for order in self.active), *canceled)


def record_orders(connection: sa.Connection, orders: Iterable[NewOrder], message_id: str, at: float) -> None:
    """Add orders, or replace what an earlier message said of the same ones."""
    for number, new in enumerate(orders):
        keys = present_keys(connection, new.keys)
        values = {**vars(keys), "priority": new.priority, "reason": new.reason}
        values |= {"procedure_code": new.procedure_code, "procedure": new.procedure, "state": new.state}
        values |= {"message_id": message_id, "updated_at": at, "noticed_at": None}
        before = _same_order(connection, keys)
        if before is None:
            row = {"id": f"{message_id}/{number}", "result_status": "", "received_at": at, **values}
            insert_new(connection, imaging_order, [row])
            discard_worklist_orders(connection, keys)
            continue
        if new.state == OrderState.CANCELED:  # a cancellation may say nothing else
            values = {name: value for name, value in values.items() if value not in ("", None)} | {"noticed_at": None}
        connection.execute(sa.update(imaging_order).where(imaging_order.c.id == before).values(**values))
        discard_worklist_orders(connection, keys)


def record_reports(connection: sa.Connection, reports: Iterable[ReportStatus], at: float) -> None:
    """Keep the status of reports on orders that are known; a report makes no order."""
    for report in reports:
        known = _same_order(connection, present_keys(connection, report.keys))
        if known is not None:
            changed = {"result_status": report.status, "updated_at": at}
            connection.execute(sa.update(imaging_order).where(imaging_order.c.id == known).values(**changed))


def present_keys(connection: sa.Connection, keys: OrderKeys) -> OrderKeys:
    """Return the keys of an order or of images with the ID that their patient has after all merges."""
    patient_id, issuer = present_identity(connection, keys.patient_id, keys.patient_issuer)
    return replace(keys, patient_id=patient_id, patient_issuer=issuer)


def _same_order(connection: sa.Connection, keys: OrderKeys) -> str | None:
    """Return the order that has the same placer number, or the same filler number where one has no placer number.

    Where neither has any of them, that of the same accession number. All of the same patient.
    """
    order = imaging_order.c
    same_filler = sa.and_(order.filler == keys.filler, sa.or_(order.placer == "", sa.literal(not keys.placer)))
    if keys.placer or keys.filler:
        tests = [order.placer == keys.placer] if keys.placer else []
        tests += [same_filler] if keys.filler else []
        same = sa.or_(*tests)
    elif keys.accession:
        same = order.accession == keys.accession
    else:
        same = order.study_instance_uid == keys.study_instance_uid
    rows = connection.execute(sa.select(imaging_order).where(same).order_by(order.updated_at.desc()).limit(_LOOKED_AT))
    for row in rows:
        if row.patient_id == keys.patient_id and not issuers_differ(row.patient_issuer, keys.patient_issuer):
            return str(row.id)
    return None


def orders_of(connection: sa.Connection, images: OrderKeys) -> OrdersOfSeries:
    """Return the orders about a series whose headers say ``images``."""
    numbers = images.numbers
    if not numbers:
        return OrdersOfSeries()
    same = sa.or_(*(imaging_order.c[name] == value for name, value in numbers.items()))
    query = sa.select(imaging_order).where(same).order_by(imaging_order.c.received_at, imaging_order.c.id)
    rows = connection.execute(query.limit(_LOOKED_AT)).all()
    if not rows:
        return OrdersOfSeries()
    images = present_keys(connection, images)
    named = [order for order in map(_order, rows) if names_same_order(order.keys, images)]
    own = [order for order in named if is_same_patient(order.keys, images)]
    return OrdersOfSeries(
        active=tuple(order for order in own if order.state == OrderState.ACTIVE),
        canceled=tuple(order for order in own if order.state == OrderState.CANCELED),
        of_others=tuple(order for order in named if order not in own),
    )


def orders_of_series(connection: sa.Connection, study: str, series: str) -> OrdersOfSeries:
    """Return the orders about a series that was complete once."""
    row = connection.execute(
        sa.select(series_request).where(
            series_request.c.study_instance_uid == study, series_request.c.series_instance_uid == series
        )
    ).first()
    return OrdersOfSeries() if row is None else orders_of(connection, _keys(row))


def orders_of_study(connection: sa.Connection, study: str) -> OrdersOfSeries:
    """Return the orders about any series of a study."""
    by_kind: dict[str, dict[str, Order]] = {"active": {}, "canceled": {}, "of_others": {}}
    rows = connection.execute(sa.select(series_request).where(series_request.c.study_instance_uid == study)).all()
    for keys in {_keys(row) for row in rows}:
        for kind, orders in vars(orders_of(connection, keys)).items():
            by_kind[kind] |= {order.id: order for order in orders}
    return OrdersOfSeries(**{kind: tuple(orders.values()) for kind, orders in by_kind.items()})


def has_messages(connection: sa.Connection) -> bool:
    """Whether the information system has sent anything."""
    return connection.scalar(sa.select(order_message.c.id).limit(1)) is not None


def has_orders(connection: sa.Connection) -> bool:
    """Whether any order is known."""
    return connection.scalar(sa.select(imaging_order.c.id).limit(1)) is not None


def record_request(connection: sa.Connection, series: str, images: OrderKeys, at: float) -> None:
    """Keep what the headers of a series say of its order, for orders and merges that come later."""
    key = {"study_instance_uid": images.study_instance_uid, "series_instance_uid": series}
    same = sa.and_(*(series_request.c[name] == uid for name, uid in key.items()))
    connection.execute(sa.delete(series_request).where(same))
    connection.execute(sa.insert(series_request).values(**vars(images) | key | {"read_at": at}))


def new_orders(connection: sa.Connection, before: float, limit: int = 500) -> list[Order]:
    """Return orders since whose last message no router has looked at what it decided; of before ``before``."""
    query = sa.select(imaging_order).where(imaging_order.c.noticed_at.is_(None), imaging_order.c.updated_at < before)
    return [_order(row) for row in connection.execute(query.order_by(imaging_order.c.updated_at).limit(limit))]


def notice_order(connection: sa.Connection, of: Order, at: float) -> bool:
    """Mark an order as applied; ``False``: another router was faster, or another message came."""
    this = sa.and_(imaging_order.c.id == of.id, imaging_order.c.noticed_at.is_(None))
    unchanged = imaging_order.c.updated_at == of.updated_at
    changed = connection.execute(sa.update(imaging_order).where(this, unchanged).values(noticed_at=at))
    return changed.rowcount == 1


def series_of_order(connection: sa.Connection, of: Order) -> list[tuple[str, str, float]]:
    """Study and Series Instance UID of the series that an order is about, and when each was last complete."""
    numbers = of.keys.numbers
    same = sa.or_(*(series_request.c[name] == value for name, value in numbers.items()))
    rows = connection.execute(sa.select(series_request).where(same).limit(10 * _LOOKED_AT)).all()
    series = []
    for row in rows:
        images = present_keys(connection, _keys(row))
        if names_same_order(of.keys, images) and is_same_patient(of.keys, images):
            series.append((str(row.study_instance_uid), str(row.series_instance_uid), float(row.read_at)))
    return series


def latest_orders(connection: sa.Connection, limit: int) -> list[Order]:
    """Newest first."""
    query = sa.select(imaging_order).order_by(imaging_order.c.updated_at.desc(), imaging_order.c.id).limit(limit)
    return [_order(row) for row in connection.execute(query)]


def purge_orders(connection: sa.Connection, before: float) -> None:
    """Delete orders that no message was about since ``before``."""
    connection.execute(sa.delete(imaging_order).where(imaging_order.c.updated_at < before))


def _order(row: Any) -> Order:
    return Order(
        id=row.id,
        keys=_keys(row),
        values=OrderValues(**{name: getattr(row, name) for name in _VALUES}),
        state=OrderState(row.state),
        result_status=row.result_status,
        received_at=row.received_at,
        updated_at=row.updated_at,
        of_worklist=row.message_id == WORKLIST,
    )


def _keys(row: Any) -> OrderKeys:
    return OrderKeys(**{name: getattr(row, name) for name in _KEYS})


def order_summaries(orders: Sequence[Order]) -> list[dict[str, Any]]:
    """What may be shown of orders without saying who the patient is: numbers and free text are left out."""
    return [
        {
            "priority": order.values.priority,
            "procedure_code": order.values.procedure_code,
            "procedure": order.values.procedure,
            "state": order.state.value,
            "result_status": order.result_status,
            "of_worklist": order.of_worklist,
            "received_at": order.received_at,
            "updated_at": order.updated_at,
        }
        for order in orders
    ]
