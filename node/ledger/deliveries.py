"""What each destination is owed and has answered: transitions and queries of ``delivery`` and ``delivery_instance``.

A delivery is SCHEDULED, IN PROGRESS while a sender works on it, STORED when every C-STORE was answered well, CONFIRMED
when Storage Commitment vouches for every instance, CANCELED with its job. Nothing here leaves CANCELED by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from pydicom import Dataset

from node.ledger.engine import insert_new, now
from node.ledger.tables import delivery, delivery_instance, result
from node.ledger.timeline import tell

SCHEDULED, IN_PROGRESS, STORED, CONFIRMED, CANCELED = "SCHEDULED", "IN PROGRESS", "STORED", "CONFIRMED", "CANCELED"

DUPLICATE = 0x0111
"""Duplicate SOP Instance (PS3.7 C.5.6). Our UIDs are derived from the content, so the peer holds this very object: the
answer to a repeat after an unconfirmed crash."""


def is_stored(status: int | None) -> bool:
    """Whether a C-STORE status means that the peer keeps the object: success, warning (PS3.4 B.2.3) or duplicate."""
    return status is not None and (status in (0x0000, DUPLICATE) or 0xB000 <= status <= 0xBFFF)


_STORED = sa.and_(
    delivery_instance.c.status.is_not(None),
    sa.or_(delivery_instance.c.status.in_((0x0000, DUPLICATE)), delivery_instance.c.status.between(0xB000, 0xBFFF)),
)
_OWED = sa.and_(  # result rows that a delivery of the same job owes
    result.c.quarantine.is_(None),
    sa.or_(delivery.c.kinds.is_(None), delivery.c.kinds.contains(sa.literal("|") + result.c.kind + "|")),
)
_OF_RESULT = sa.and_(
    delivery_instance.c.job_id == result.c.job_id,
    delivery_instance.c.sop_instance_uid == result.c.sop_instance_uid,
)


@dataclass(frozen=True, kw_only=True)
class Owed:
    """One object a destination has still to store, or to commit."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    """Relative to ``[storage] folder``."""
    size: int
    """Bytes of the file."""


@dataclass(frozen=True, kw_only=True)
class DeliveryStatus:
    """One line of ``ainode status``."""

    job_id: str
    destination: str
    state: str
    attempt: int
    next_at: float | None
    error: str | None
    instances: int
    stored: int
    committed: int


def schedule_delivery(
    connection: sa.Connection, job_id: str, destination: str, kinds: Collection[str] | None = None
) -> None:
    """Owe the job's results of some kinds (``None``: all) to a destination; again after new results.

    Harmless when nothing is new.
    """
    at = now()
    owed = None if kinds is None else f"|{'|'.join(sorted(kinds))}|"
    row = {
        "job_id": job_id,
        "destination": destination,
        "state": SCHEDULED,
        "attempt": 0,
        "created_at": at,
        "updated_at": at,
        "kinds": owed,
    }
    if not insert_new(connection, delivery, [row]):
        fresh = {"attempt": 0, "next_at": None, "ended_at": None, "error": None, "kinds": owed}
        _update(connection, job_id, destination, state=SCHEDULED, **fresh)


def begin_delivery(connection: sa.Connection, job_id: str, destination: str) -> int | None:
    """Count a new attempt and return its number; ``None``: nothing to do (confirmed, cancelled or unknown)."""
    row = _locked(connection, job_id, destination)
    if row is None or row.state in (CONFIRMED, CANCELED):
        return None
    state = STORED if row.state == STORED else IN_PROGRESS
    _update(connection, job_id, destination, state=state, attempt=row.attempt + 1, next_at=None)
    return int(row.attempt) + 1


def instances_to_store(connection: sa.Connection, job_id: str, destination: str) -> list[Owed]:
    """The job's results that the destination is owed and has not stored; oldest first."""
    answered = sa.and_(_OF_RESULT, delivery_instance.c.destination == destination, _STORED)
    query = (
        sa.select(result)
        .join(delivery, delivery.c.job_id == result.c.job_id)
        .where(_is(delivery, job_id, destination), _OWED)
        .where(~sa.exists().where(answered))
        .order_by(result.c.created_at, result.c.sop_instance_uid)
    )
    return [_owed(row) for row in connection.execute(query)]


def instances_to_commit(connection: sa.Connection, job_id: str, destination: str, asked_before: float) -> list[Owed]:
    """Stored results that nobody has committed and for which no request later than ``asked_before`` is under way."""
    asked_at = delivery_instance.c.asked_at
    query = (
        sa.select(result)
        .join(delivery_instance, _OF_RESULT)
        .where(delivery_instance.c.job_id == job_id, delivery_instance.c.destination == destination, _STORED)
        .where(delivery_instance.c.committed_at.is_(None), sa.or_(asked_at.is_(None), asked_at <= asked_before))
        .order_by(result.c.created_at, result.c.sop_instance_uid)
    )
    return [_owed(row) for row in connection.execute(query)]


def record_status(
    connection: sa.Connection, job_id: str, destination: str, sop_instance_uid: str, *, status: int | None, comment: str
) -> bool:
    """Keep the C-STORE status of one instance; ``None`` when there was no answer, the comment then says why.

    Returns whether the delivery is still wanted: ``False`` after a cancellation.
    """
    _upsert(connection, job_id, destination, sop_instance_uid, status=status, comment=comment, sent_at=now())
    state = connection.scalar(sa.select(delivery.c.state).where(_is(delivery, job_id, destination)))
    return state != CANCELED


def record_request(
    connection: sa.Connection, job_id: str, destination: str, sop_instance_uids: Sequence[str], transaction_uid: str
) -> None:
    """Keep, before it is sent, that Storage Commitment of these instances is asked for under ``transaction_uid``."""
    at = now()
    for uid in sop_instance_uids:
        _upsert(connection, job_id, destination, uid, transaction_uid=transaction_uid, asked_at=at)


def withdraw_request(connection: sa.Connection, transaction_uid: str) -> None:
    """The peer did not take the request: ask again at the next attempt instead of waiting for an answer."""
    connection.execute(
        sa.update(delivery_instance)
        .where(delivery_instance.c.transaction_uid == transaction_uid)
        .values(transaction_uid=None, asked_at=None)
    )


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
        _locked(connection, job_id, destination)
        at = now()
        for uid in committed:
            _answer(connection, transaction_uid, uid, {"committed_at": at})
        for uid, reason in failed:
            comment = f"Storage Commitment failed: {_failure(reason)}"
            again = {"status": None, "comment": comment, "transaction_uid": None, "asked_at": None}
            _answer(connection, transaction_uid, uid, again)
        settle_delivery(connection, job_id, destination)
    return bool(ours)


def record_report(connection: sa.Connection, information: Dataset) -> bool:
    """``record_commitment`` of the Event Information of an N-EVENT-REPORT request, event type 1 or 2."""
    committed = [str(item.ReferencedSOPInstanceUID) for item in information.get("ReferencedSOPSequence", ())]
    failed = [
        (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason", 0x0110)))
        for item in information.get("FailedSOPSequence", ())
    ]
    return record_commitment(connection, str(information.get("TransactionUID", "")), committed, failed)


def settle_delivery(connection: sa.Connection, job_id: str, destination: str) -> str:
    """Set the state that the instances' answers give, and return it."""
    row = _locked(connection, job_id, destination)
    if row is None or row.state == CANCELED:
        return CANCELED
    status = _statuses(connection, _is(delivery, job_id, destination))[0]
    if status.stored < status.instances:
        state = SCHEDULED
    elif status.instances and status.committed == status.instances:
        state = CONFIRMED
    else:
        state = STORED
    if state != row.state:
        _update(connection, job_id, destination, state=state, error=None if state in (STORED, CONFIRMED) else row.error)
        if state != SCHEDULED:
            tell(connection, job_id, f"delivery {state.lower()}", f"{destination}: {status.instances} instances")
    return state


def postpone_delivery(connection: sa.Connection, job_id: str, destination: str, error: str, next_at: float) -> None:
    """Keep why an attempt did not finish and when the next one is due."""
    if settle_delivery(connection, job_id, destination) not in (CONFIRMED, CANCELED):
        _update(connection, job_id, destination, error=error, next_at=next_at)


def cancel_deliveries(connection: sa.Connection, job_id: str) -> None:
    """Owe nothing more of this job; what was stored or confirmed stays so."""
    connection.execute(
        sa.update(delivery)
        .where(delivery.c.job_id == job_id, delivery.c.state.in_((SCHEDULED, IN_PROGRESS)))
        .values(state=CANCELED, next_at=None, updated_at=now())
    )


def deliveries_of(connection: sa.Connection, job_id: str) -> list[DeliveryStatus]:
    """Every delivery of a job, by destination."""
    return _statuses(connection, delivery.c.job_id == job_id)


def open_deliveries(connection: sa.Connection) -> list[DeliveryStatus]:
    """Every delivery that a destination has not stored yet, oldest first."""
    return _statuses(connection, delivery.c.state.in_((SCHEDULED, IN_PROGRESS)))


def all_deliveries(connection: sa.Connection) -> list[DeliveryStatus]:
    """Every delivery, oldest first."""
    return _statuses(connection, sa.true())


def _statuses(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[DeliveryStatus]:
    answers = sa.and_(_OF_RESULT, delivery_instance.c.destination == delivery.c.destination)
    query = (
        sa.select(
            delivery,
            sa.func.count(result.c.sop_instance_uid).label("instances"),
            sa.func.coalesce(sa.func.sum(sa.case((_STORED, 1), else_=0)), 0).label("stored"),
            sa.func.count(delivery_instance.c.committed_at).label("committed"),
        )
        .select_from(delivery)
        .outerjoin(result, sa.and_(result.c.job_id == delivery.c.job_id, _OWED))
        .outerjoin(delivery_instance, answers)
        .where(where)
        .group_by(*delivery.c)
        .order_by(delivery.c.created_at, delivery.c.destination)
    )
    return [
        DeliveryStatus(
            job_id=row.job_id,
            destination=row.destination,
            state=row.state,
            attempt=row.attempt,
            next_at=row.next_at,
            error=row.error,
            instances=int(row.instances),
            stored=int(row.stored),
            committed=int(row.committed),
        )
        for row in connection.execute(query)
    ]


_FAILURES = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class / instance conflict",
    0x0122: "referenced SOP Class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""


def _failure(reason: int) -> str:
    return f"0x{reason:04X} ({_FAILURES.get(reason, 'a reason the standard does not name')})"


def _owed(row: sa.Row[tuple[object, ...]]) -> Owed:
    fields = row._mapping  # noqa: SLF001 - SQLAlchemy's public name
    return Owed(**{name: fields[name] for name in Owed.__dataclass_fields__})


def _is(table: sa.Table, job_id: str, destination: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.job_id == job_id, table.c.destination == destination)


def _locked(connection: sa.Connection, job_id: str, destination: str) -> sa.Row[tuple[object, ...]] | None:
    """Hold the row of a delivery (PostgreSQL; SQLite has one writer), so that sender and receiver settle in turn."""
    return connection.execute(sa.select(delivery).where(_is(delivery, job_id, destination)).with_for_update()).first()


def _update(connection: sa.Connection, job_id: str, destination: str, **values: object) -> None:
    connection.execute(sa.update(delivery).where(_is(delivery, job_id, destination)).values(**values, updated_at=now()))


def _upsert(connection: sa.Connection, job_id: str, destination: str, uid: str, **values: object) -> None:
    key = {"job_id": job_id, "destination": destination, "sop_instance_uid": uid}
    if not insert_new(connection, delivery_instance, [{**key, **values}]):
        which = sa.and_(_is(delivery_instance, job_id, destination), delivery_instance.c.sop_instance_uid == uid)
        connection.execute(sa.update(delivery_instance).where(which).values(**values))


def _answer(connection: sa.Connection, transaction_uid: str, uid: str, values: Mapping[str, object]) -> None:
    connection.execute(
        sa.update(delivery_instance)
        .where(delivery_instance.c.transaction_uid == transaction_uid, delivery_instance.c.sop_instance_uid == uid)
        .values(**values)
    )
