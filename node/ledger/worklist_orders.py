"""Orders of the Modality Worklist: they are rows like those of messages, to which they give way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from node.ledger.engine import insert_new
from node.ledger.new_orders import NewOrder
from node.ledger.order_keys import OrderKeys, is_same_patient, names_same_order
from node.ledger.tables import imaging_order

WORKLIST = "worklist"
"""In place of the id of a message."""


def record_worklist_orders(connection: sa.Connection, orders: Iterable[NewOrder], query_id: str, at: float) -> None:
    """Add the orders that answer a query; nothing changes when they were added before."""
    rows = [
        {
            **vars(new.keys),
            "id": f"{WORKLIST}/{query_id}/{number}",
            "procedure_code": new.procedure_code,
            "procedure": new.procedure,
            "priority": new.priority,
            "reason": new.reason,
            "state": new.state,
            "result_status": "",
            "message_id": WORKLIST,
            "received_at": at,
            "updated_at": at,
            "noticed_at": None,
        }
        for number, new in enumerate(orders)
    ]
    insert_new(connection, imaging_order, rows)


def discard_worklist_orders(connection: sa.Connection, keys: OrderKeys) -> None:
    """Delete what the worklist said of an order that a message is about: the message is the later word."""
    order, names = imaging_order.c, tuple(OrderKeys.__dataclass_fields__)
    same = sa.or_(*(order[name] == value for name, value in keys.numbers.items()))
    rows = connection.execute(sa.select(imaging_order).where(same, order.message_id == WORKLIST)).mappings().all()
    replaced: Sequence[str] = [
        row["id"]
        for row in rows
        for of in [OrderKeys(**{name: row[name] for name in names})]
        if names_same_order(of, keys) and is_same_patient(of, keys)
    ]
    if replaced:
        connection.execute(sa.delete(imaging_order).where(order.id.in_(replaced)))
