"""Messages of the information system that were answered. Those that were not accepted are kept with their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.new_orders import OrderMessage
from node.ledger.orders import record_orders, record_reports
from node.ledger.patient_changes import record_changes
from node.ledger.tables import order_message

ACCEPTED = "AA"
LONGEST_CONTENT = 1 << 16
"""Bytes that are kept of a message that was not accepted."""
MOST_REJECTED = 1000
"""Messages that were not accepted and are kept; older ones go first."""
RECEIPT_SECONDS = 7 * 86400.0
"""How long a message that comes again is recognized."""

_REJECTED = order_message.c.answer != sa.literal_column(f"'{ACCEPTED}'")
"""As a literal, for which the index of rejected messages serves."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A message and how it was answered."""

    id: str
    sender: str
    control_id: str
    kind: str
    peer_address: str
    answer: str
    """MSA-1: ``AA``, ``AE`` or ``AR``."""
    reason: str = ""
    content: bytes | None = None
    """First bytes of a message that was not accepted."""
    received_at: float = 0.0
    """Seconds since 1970 UTC, by the clock of the ledger; set when it is recorded."""


def record_messages(connection: sa.Connection, messages: Sequence[tuple[Receipt, OrderMessage]]) -> list[Receipt]:
    """Record messages with what they say, in their order and the caller's transaction; return their receipts.

    A message that was recorded before changes nothing, and has the receipt that it had then.
    """
    at = ledger_clock(connection)
    wanted = [receipt.id for receipt, _ in messages]
    known = {
        row["id"]: Receipt(**row)
        for row in connection.execute(sa.select(order_message).where(order_message.c.id.in_(wanted))).mappings()
    }
    receipts, new = [], []
    for receipt, message in messages:
        if receipt.id not in known:
            known[receipt.id] = replace(receipt, received_at=at)
            if insert_new(connection, order_message, [vars(known[receipt.id])]):  # else another machine was faster
                new.append((receipt, message))
        receipts.append(known[receipt.id])
    for receipt, message in new:
        record_orders(connection, message.orders, receipt.id, at)
        record_reports(connection, message.reports, at)
        record_changes(connection, message.changes, receipt.id, at)
    if any(receipt.answer != ACCEPTED for receipt, _ in new):
        _bound_rejected(connection)
    return receipts


def _bound_rejected(connection: sa.Connection) -> None:
    rejected = sa.select(order_message.c.id).where(_REJECTED)
    surplus = rejected.order_by(order_message.c.received_at.desc()).offset(MOST_REJECTED).limit(MOST_REJECTED)
    connection.execute(sa.delete(order_message).where(order_message.c.id.in_(surplus)))


def latest_messages(connection: sa.Connection, limit: int, *, rejected: bool = False) -> list[Receipt]:
    """Newest first; ``rejected``: only those that were not accepted."""
    query = sa.select(order_message).order_by(order_message.c.received_at.desc(), order_message.c.id).limit(limit)
    if rejected:
        query = query.where(_REJECTED)
    return [Receipt(**row) for row in connection.execute(query).mappings()]


@dataclass(frozen=True, kw_only=True)
class RejectedMessages:
    """Messages that were not accepted since some time."""

    number: int
    oldest: float


def rejected_messages(connection: sa.Connection, since: float) -> RejectedMessages:
    """Count the messages that were not accepted since then."""
    query = sa.select(sa.func.count(), sa.func.min(order_message.c.received_at)).where(
        _REJECTED, order_message.c.received_at >= since
    )
    number, oldest = connection.execute(query).one()
    return RejectedMessages(number=number, oldest=oldest or since)


def purge_messages(connection: sa.Connection, at: float, before: float) -> None:
    """Delete receipts that are too old to be asked for again, and rejected messages older than ``before``."""
    accepted = order_message.c.answer == ACCEPTED
    old = sa.or_(
        sa.and_(accepted, order_message.c.received_at < at - RECEIPT_SECONDS),
        sa.and_(~accepted, order_message.c.received_at < before),
    )
    connection.execute(sa.delete(order_message).where(old))
