"""Proof that destinations keep what they stored: Storage Commitment, and queries for the stored instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from pydicom import Dataset

from node.ledger.clock import ledger_clock
from node.ledger.clock_steps import passed
from node.ledger.deliveries import PENDING_AGAIN, Claim, locked_delivery, settle_delivery
from node.ledger.tables import delivery_instance

_FAILURES = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class / instance conflict",
    0x0122: "referenced SOP Class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""


def record_request(
    connection: sa.Connection, job_id: str, destination: str, sop_instance_uids: Sequence[str], transaction_uid: str
) -> None:
    """Keep, before it is sent, that Storage Commitment of these instances is asked for under ``transaction_uid``."""
    values = {"transaction_uid": transaction_uid, "asked_at": ledger_clock(connection)}
    for uid in sop_instance_uids:
        which = sa.and_(_is(job_id, destination), delivery_instance.c.sop_instance_uid == uid)
        connection.execute(sa.update(delivery_instance).where(which).values(**values))


def withdraw_request(connection: sa.Connection, transaction_uid: str) -> None:
    """The peer did not take the request: ask again at the next attempt instead of waiting for an answer."""
    connection.execute(
        sa.update(delivery_instance)
        .where(delivery_instance.c.transaction_uid == transaction_uid)
        .values(transaction_uid=None, asked_at=None)
    )


def asked_destinations(connection: sa.Connection, transaction_uid: str) -> set[str]:
    """Which destinations were asked for commitment under this Transaction UID."""
    query = sa.select(delivery_instance.c.destination).where(delivery_instance.c.transaction_uid == transaction_uid)
    return set(connection.scalars(query.distinct()))


def record_commitment(
    connection: sa.Connection,
    transaction_uid: str,
    committed: Sequence[str],
    failed: Sequence[tuple[str, int]],
) -> bool:
    """Take the N-EVENT-REPORT of a Storage Commitment request (PS3.4 J.3.3).

    ``committed``: SOP Instance UIDs the peer vouches for; ``failed``: those it does not, with their Failure Reason
    (0008,1197): these are sent again. Returns whether the transaction is one of ours and still open.
    """
    ours = connection.execute(
        sa.select(delivery_instance.c.job_id, delivery_instance.c.destination)
        .where(delivery_instance.c.transaction_uid == transaction_uid)
        .distinct()
    ).all()
    for job_id, destination in ours:
        locked_delivery(connection, job_id, destination)
        at = ledger_clock(connection)
        for uid in committed:
            _answer(connection, transaction_uid, uid, {"committed_at": at})
        for uid, reason in failed:
            comment = f"Storage Commitment failed: {_failure(reason)}"
            _answer(connection, transaction_uid, uid, {**PENDING_AGAIN, "comment": comment})
        settle_delivery(connection, job_id, destination)
    return bool(ours)


def record_query_result(
    connection: sa.Connection, claim: Claim, stored_uids: Sequence[str], missing: Sequence[str], sent_before: float
) -> None:
    """Record the answer of a destination to a query for instances.

    What it holds is confirmed; what it does not hold is sent again, if it was sent before ``sent_before``. Nothing of
    that when no attempt will come any more: another sender has ended the delivery meanwhile.
    """
    row = locked_delivery(connection, claim.job_id, claim.destination)
    if row is None or row.created_at != claim.since or row.ended_at is not None:
        return
    at, ours = ledger_clock(connection), _is(claim.job_id, claim.destination)
    for uid in stored_uids:
        which = sa.and_(ours, delivery_instance.c.sop_instance_uid == uid)
        connection.execute(sa.update(delivery_instance).where(which).values(committed_at=at))
    for uid in missing:
        late = passed(delivery_instance.c.sent_at, sent_before)
        which = sa.and_(ours, delivery_instance.c.sop_instance_uid == uid, late)
        connection.execute(sa.update(delivery_instance).where(which).values(**PENDING_AGAIN, comment="not found there"))
    settle_delivery(connection, claim.job_id, claim.destination)


def record_report(connection: sa.Connection, information: Dataset) -> bool:
    """``record_commitment`` of the Event Information of an N-EVENT-REPORT request, event type 1 or 2."""
    committed = [_uid(item) for item in information.get("ReferencedSOPSequence") or ()]
    failed = [
        (_uid(item), reason if isinstance(reason := item.get("FailureReason"), int) else 0x0110)
        for item in information.get("FailedSOPSequence") or ()
    ]
    return record_commitment(connection, str(information.get("TransactionUID", "")), committed, failed)


def _uid(item: Dataset) -> str:
    return str(item.get("ReferencedSOPInstanceUID") or "")


def _failure(reason: int) -> str:
    return f"0x{reason:04X} ({_FAILURES.get(reason, 'a reason the standard does not name')})"


def _is(job_id: str, destination: str) -> sa.ColumnElement[bool]:
    return sa.and_(delivery_instance.c.job_id == job_id, delivery_instance.c.destination == destination)


def _answer(connection: sa.Connection, transaction_uid: str, uid: str, values: Mapping[str, object]) -> None:
    connection.execute(
        sa.update(delivery_instance)
        .where(delivery_instance.c.transaction_uid == transaction_uid, delivery_instance.c.sop_instance_uid == uid)
        .values(**values)
    )
