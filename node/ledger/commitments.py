"""Storage Commitment requests to this node (PS3.4 annex J): answers and their delivery.

A transaction is SCHEDULED until its requester took the report (COMPLETED) or it was given up (CANCELED).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydicom import Dataset

from node.ledger.clock import ledger_clock
from node.ledger.clock_steps import is_ahead
from node.ledger.peer_bounds import make_room
from node.ledger.states import CommitmentState
from node.ledger.tables import commitment, commitment_instance, excluded, instance

_CHUNK = 500
"""UIDs per query: databases limit the variables of a statement."""
_KEY = (commitment_instance.c.calling_ae, commitment_instance.c.transaction_uid)
_NAMING_SERIES = (
    sa.select(*_KEY, commitment.c.association_id, commitment.c.equipment)
    .join(instance, instance.c.sop_instance_uid == commitment_instance.c.sop_instance_uid)
    .join(commitment, sa.and_(commitment.c.calling_ae == _KEY[0], commitment.c.transaction_uid == _KEY[1]))
    .where(
        instance.c.study_instance_uid == sa.bindparam("study"),
        instance.c.series_instance_uid == sa.bindparam("series"),
    )
    .distinct()
)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An instance as recorded in the ledger."""

    sop_class_uid: str
    path: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Named:
    """One instance of a request and the answer to it."""

    sop_instance_uid: str
    sop_class_uid: str
    failure: int | None
    """Failure Reason (0008,1197), PS3.3 C.14.1.1; ``None``: committed."""


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """A request whose answer is not yet delivered."""

    calling_ae: str
    transaction_uid: str
    attempt: int
    """How often it was tried."""
    asked_at: float


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that names instances of a series."""

    calling_ae: str
    association_id: str
    equipment: str
    """The device that asks; "" when it is not known."""
    paths: Mapping[str, str | None]
    """Of every instance that it names, by SOP Instance UID; ``None``: it is not here."""


def recorded_instances(connection: sa.Connection, uids: Sequence[str]) -> dict[str, Recorded]:
    """Those of the instances that have a row, also excluded ones: the node keeps them."""
    recorded = {}
    for start in range(0, len(uids), _CHUNK):
        for table in (excluded, instance):
            query = sa.select(table).where(table.c.sop_instance_uid.in_(uids[start : start + _CHUNK]))
            for row in connection.execute(query):
                recorded[row.sop_instance_uid] = Recorded(sop_class_uid=row.sop_class_uid, path=row.path, size=row.size)
    return recorded


def record_transaction(
    connection: sa.Connection,
    *,
    calling_ae: str,
    transaction_uid: str,
    association_id: str,
    equipment: str,
    named: Sequence[Named],
    next_at: float,
) -> bool:
    """Keep a request with its answer; the same request again is answered again. ``equipment``: the device that asks.

    ``False``: it has too many (``node.ledger.peer_bounds``).
    """
    of = {"calling_ae": calling_ae, "transaction_uid": transaction_uid}
    before = connection.scalar(sa.select(commitment.c.named).where(_is(commitment, calling_ae, transaction_uid)))
    rows, more = (1, len(named)) if before is None else (0, max(0, len(named) - before))
    has_ended = commitment.c.state != CommitmentState.SCHEDULED
    if not make_room(connection, commitment, equipment, rows=rows, named=more, has_ended=has_ended, remove=_remove_row):
        return False
    _remove(connection, calling_ae, transaction_uid)
    at = ledger_clock(connection)
    row = {
        "association_id": association_id,
        "equipment": equipment,
        "named": len(named),
        "state": CommitmentState.SCHEDULED,
        "attempt": 0,
        "next_at": next_at,
    }
    connection.execute(sa.insert(commitment).values(**of, **row, asked_at=at, updated_at=at))
    connection.execute(sa.insert(commitment_instance), [{**of, **vars(instance)} for instance in named])
    return True


def due_transactions(connection: sa.Connection, at: float) -> list[Transaction]:
    """Return requests whose answer is due, oldest first."""
    columns = commitment.c[tuple(Transaction.__dataclass_fields__)]
    query = sa.select(*columns).where(_is_due(at)).order_by(commitment.c.asked_at)
    return [Transaction(**row) for row in connection.execute(query).mappings()]


def claim_transaction(
    connection: sa.Connection, calling_ae: str, transaction_uid: str, at: float, seconds: float
) -> bool:
    """Keep an answer that is due at ``at`` from other senders for a time; ``False``: one of them was faster."""
    due = sa.update(commitment).where(_is(commitment, calling_ae, transaction_uid), _is_due(at))
    now = ledger_clock(connection)
    return connection.execute(due.values(next_at=max(at, now) + seconds, updated_at=now)).rowcount == 1


def report(connection: sa.Connection, calling_ae: str, transaction_uid: str) -> tuple[int, Dataset]:
    """Event Type ID and Event Information of the report (PS3.4 J.3.3)."""
    query = sa.select(commitment_instance).where(_is(commitment_instance, calling_ae, transaction_uid))
    done, failed = [], []
    for row in connection.execute(query.order_by(commitment_instance.c.sop_instance_uid)):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = row.sop_class_uid, row.sop_instance_uid
        if row.failure is None:
            done.append(item)
        else:
            item.FailureReason = row.failure
            failed.append(item)
    information = Dataset()
    information.TransactionUID = transaction_uid
    if done:
        information.ReferencedSOPSequence = done
    if failed:
        information.FailedSOPSequence = failed
    return (2 if failed else 1), information


def requests_of_series(connection: sa.Connection, study: str, series: str) -> list[Request]:
    """Requests that name at least one instance of a series."""
    requests = []
    for row in connection.execute(_NAMING_SERIES, {"study": study, "series": series}).all():
        named = (
            sa.select(commitment_instance.c.sop_instance_uid, instance.c.path)
            .outerjoin(instance, instance.c.sop_instance_uid == commitment_instance.c.sop_instance_uid)
            .where(_KEY[0] == row.calling_ae, _KEY[1] == row.transaction_uid)
        )
        requests.append(
            Request(
                calling_ae=row.calling_ae,
                association_id=row.association_id,
                equipment=row.equipment or "",
                paths={image.sop_instance_uid: image.path for image in connection.execute(named)},
            )
        )
    return requests


def end_transaction(connection: sa.Connection, calling_ae: str, transaction_uid: str, error: str | None = None) -> None:
    """End a request: the report was accepted or, with an ``error``, given up."""
    values = {
        "state": CommitmentState.CANCELED if error else CommitmentState.COMPLETED,
        "next_at": None,
        "error": error,
        "updated_at": ledger_clock(connection),
    }
    connection.execute(sa.update(commitment).where(_is(commitment, calling_ae, transaction_uid)).values(**values))


def postpone_transaction(
    connection: sa.Connection, calling_ae: str, transaction_uid: str, error: str, next_at: float
) -> None:
    """Postpone a report that could not be delivered until ``next_at``."""
    values = {
        "attempt": commitment.c.attempt + 1,
        "error": error,
        "next_at": next_at,
        "updated_at": ledger_clock(connection),
    }
    connection.execute(sa.update(commitment).where(_is(commitment, calling_ae, transaction_uid)).values(**values))


def purge_transactions(connection: sa.Connection, ended_before: float) -> None:
    """Delete requests that ended before a time."""
    old = sa.and_(commitment.c.state != CommitmentState.SCHEDULED, commitment.c.updated_at < ended_before)
    for row in connection.execute(sa.select(commitment.c.calling_ae, commitment.c.transaction_uid).where(old)).all():
        _remove(connection, row.calling_ae, row.transaction_uid)


def _remove_row(connection: sa.Connection, row: Any) -> None:
    _remove(connection, row.calling_ae, row.transaction_uid)


def _remove(connection: sa.Connection, calling_ae: str, transaction_uid: str) -> None:
    for table in (commitment_instance, commitment):
        connection.execute(sa.delete(table).where(_is(table, calling_ae, transaction_uid)))


def _is_due(at: float) -> sa.ColumnElement[bool]:
    return sa.and_(
        commitment.c.state == CommitmentState.SCHEDULED,
        sa.or_(commitment.c.next_at <= at, is_ahead(commitment.c.updated_at)),
    )


def _is(table: sa.Table, calling_ae: str, transaction_uid: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.calling_ae == calling_ae, table.c.transaction_uid == transaction_uid)
