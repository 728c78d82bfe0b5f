"""Deliveries: the transitions of ``delivery`` and ``delivery_instance``; queries are in ``pending_deliveries``.

A delivery is SCHEDULED, IN PROGRESS while a sender works on it, STORED when every C-STORE was answered well, CONFIRMED
when there is proof that the destination keeps them all, CANCELED with its job. Nothing here leaves CANCELED by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.events import EventKind, record_event
from node.ledger.pending_deliveries import statuses
from node.ledger.states import DeliveryState
from node.ledger.tables import delivery, delivery_instance, delivery_kind

PENDING_AGAIN = {"status": None, "transaction_uid": None, "asked_at": None, "committed_at": None}
"""What makes an instance pending again."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The claim of one attempt on one delivery. It is void for the new delivery that a retry makes."""

    job_id: str
    destination: str
    attempt: int
    since: float
    """When the delivery was made."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A transcoded object that was sent in place of the stored file."""

    transfer_syntax_uid: str
    digest: str
    """Of the whole Part 10 file."""


class ObjectStatus(NamedTuple):
    """The answer of a destination to one object."""

    sop_instance_uid: str
    status: int | None
    """Of the C-STORE response; ``None``: there was none, the comment says why."""
    comment: str = ""
    sent: Sent | None = None


def schedule_delivery(
    connection: sa.Connection, job_id: str, destination: str, kinds: Collection[str] | None = None
) -> None:
    """Schedule delivery of the job's results of some kinds (``None``: all); again after new results.

    Harmless when nothing is new.
    """
    at = ledger_clock(connection)
    row = {
        "job_id": job_id,
        "destination": destination,
        "state": DeliveryState.SCHEDULED,
        "attempt": 0,
        "created_at": at,
        "updated_at": at,
        "every_kind": kinds is None,
    }
    if not insert_new(connection, delivery, [row]):
        fresh = {"attempt": 0, "next_at": None, "ended_at": None, "audited_at": None, "error": None}
        _update(connection, job_id, destination, state=DeliveryState.SCHEDULED, **fresh)
    set_kinds(connection, job_id, destination, kinds)


def set_kinds(connection: sa.Connection, job_id: str, destination: str, kinds: Collection[str] | None) -> None:
    """Let a delivery be about the results of these kinds; ``None``: of every kind."""
    connection.execute(sa.update(delivery).where(_is(delivery, job_id, destination)).values(every_kind=kinds is None))
    connection.execute(sa.delete(delivery_kind).where(_is(delivery_kind, job_id, destination)))
    insert_new(
        connection,
        delivery_kind,
        [{"job_id": job_id, "destination": destination, "kind": kind} for kind in sorted(set(kinds or ()))],
    )


def delete_deliveries(connection: sa.Connection, job_id: str, destinations: Collection[str]) -> None:
    """Delete deliveries of a job; what is known of their instances stays."""
    for table in (delivery, delivery_kind):
        of_job = sa.and_(table.c.job_id == job_id, table.c.destination.in_(destinations))
        connection.execute(sa.delete(table).where(of_job))


def reopen_delivery(connection: sa.Connection, job_id: str, destination: str, lost: Sequence[str]) -> None:
    """Reopen a delivery for objects that the destination has lost."""
    for uid in lost:
        which = sa.and_(_is(delivery_instance, job_id, destination), delivery_instance.c.sop_instance_uid == uid)
        again = {**PENDING_AGAIN, "comment": "lost by the destination"}
        connection.execute(sa.update(delivery_instance).where(which).values(**again))
    fresh = {
        "attempt": 0,
        "next_at": None,
        "ended_at": None,
        "alarmed_at": None,
        "created_at": ledger_clock(connection),
        "error": None,
    }
    _update(connection, job_id, destination, state=DeliveryState.SCHEDULED, **fresh)
    record_event(connection, job_id, EventKind.DELIVERY_REOPENED, destination=destination, objects=len(lost))


def begin_delivery(connection: sa.Connection, job_id: str, destination: str) -> Claim | None:
    """Count a new attempt; ``None``: nothing to do (confirmed, cancelled or unknown)."""
    row = locked_delivery(connection, job_id, destination)
    if row is None or row.state in (DeliveryState.CONFIRMED, DeliveryState.CANCELED):
        return None
    state = DeliveryState.STORED if row.state == DeliveryState.STORED else DeliveryState.IN_PROGRESS
    _update(connection, job_id, destination, state=state, attempt=row.attempt + 1, next_at=None)
    return Claim(job_id=job_id, destination=destination, attempt=row.attempt + 1, since=row.created_at)


def record_statuses(connection: sa.Connection, claim: Claim, statuses: Sequence[ObjectStatus]) -> bool:
    """Keep what the destination answered to some objects.

    Returns whether the delivery is still wanted: ``False`` after a cancellation, and after a retry, which has made
    another delivery of it: then nothing is kept.
    """
    row = locked_delivery(connection, claim.job_id, claim.destination)
    if row is None or row.created_at != claim.since:
        return False
    at = ledger_clock(connection)
    rows = [
        {
            "job_id": claim.job_id,
            "destination": claim.destination,
            "sop_instance_uid": status.sop_instance_uid,
            "status": status.status,
            "comment": status.comment,
            "sent_at": at,
            "sent_syntax_uid": status.sent and status.sent.transfer_syntax_uid,
            "sent_digest": status.sent and status.sent.digest,
        }
        for status in statuses
    ]
    if insert_new(connection, delivery_instance, rows) < len(rows):
        for values in rows:
            key = (delivery_instance.c[name] == values[name] for name in ("job_id", "destination", "sop_instance_uid"))
            connection.execute(sa.update(delivery_instance).where(*key).values(**values))
    return bool(row.state != DeliveryState.CANCELED)


def settle_delivery(connection: sa.Connection, job_id: str, destination: str) -> DeliveryState:
    """Set the state that the instances' answers give, and return it."""
    row = locked_delivery(connection, job_id, destination)
    if row is None or row.state == DeliveryState.CANCELED:
        return DeliveryState.CANCELED
    status = statuses(connection, _is(delivery, job_id, destination))[0]
    if status.stored < status.instances:
        state = DeliveryState.SCHEDULED
    elif status.instances and status.committed == status.instances:
        state = DeliveryState.CONFIRMED
    else:
        state = DeliveryState.STORED
    if state != row.state:
        _update(
            connection,
            job_id,
            destination,
            state=state,
            error=None if state in (DeliveryState.STORED, DeliveryState.CONFIRMED) else row.error,
        )
        if state != DeliveryState.SCHEDULED:
            stored = state == DeliveryState.STORED
            kind = EventKind.DELIVERY_STORED if stored else EventKind.DELIVERY_CONFIRMED
            record_event(connection, job_id, kind, destination=destination, instances=status.instances)
    return state


def release_delivery(connection: sa.Connection, job_id: str, destination: str) -> DeliveryState:
    """Set the state after an attempt that failed, and return it. One that failed before it began changes nothing."""
    row = locked_delivery(connection, job_id, destination)
    if row is not None and row.state == DeliveryState.SCHEDULED:
        return DeliveryState.SCHEDULED
    return settle_delivery(connection, job_id, destination)


def not_done(connection: sa.Connection, destination: str) -> dict[str, float]:
    """Deliveries that are not done and were not reported as overdue yet: job -> when it was made."""
    query = sa.select(delivery.c.job_id, delivery.c.created_at).where(
        delivery.c.destination == destination,
        delivery.c.ended_at.is_(None),
        delivery.c.state.not_in((DeliveryState.CONFIRMED, DeliveryState.CANCELED)),
        delivery.c.alarmed_at.is_(None),
    )
    return {row.job_id: row.created_at for row in connection.execute(query)}


def mark_overdue(connection: sa.Connection, destination: str, late: Collection[str], at: float) -> list[str]:
    """Report the deliveries of these jobs, unless somebody else just did; the jobs that are reported now."""
    these = sa.and_(delivery.c.destination == destination, delivery.c.job_id.in_(late), delivery.c.alarmed_at.is_(None))
    jobs = list(connection.scalars(sa.update(delivery).where(these).values(alarmed_at=at).returning(delivery.c.job_id)))
    for job_id in jobs:
        record_event(connection, job_id, EventKind.DELIVERY_OVERDUE, destination=destination)
    return jobs


def cancel_deliveries(connection: sa.Connection, job_id: str) -> None:
    """Cancel the pending deliveries of a job; stored and confirmed ones keep their state."""
    connection.execute(
        sa.update(delivery)
        .where(delivery.c.job_id == job_id, delivery.c.state.in_((DeliveryState.SCHEDULED, DeliveryState.IN_PROGRESS)))
        .values(state=DeliveryState.CANCELED, next_at=None, updated_at=ledger_clock(connection))
    )


def _is(table: sa.Table, job_id: str, destination: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.job_id == job_id, table.c.destination == destination)


def locked_delivery(connection: sa.Connection, job_id: str, destination: str) -> sa.Row[tuple[object, ...]] | None:
    """Hold the row of a delivery (PostgreSQL; SQLite has one writer), so that sender and receiver settle in turn."""
    return connection.execute(sa.select(delivery).where(_is(delivery, job_id, destination)).with_for_update()).first()


def _update(connection: sa.Connection, job_id: str, destination: str, **values: object) -> None:
    connection.execute(
        sa.update(delivery)
        .where(_is(delivery, job_id, destination))
        .values(**values, updated_at=ledger_clock(connection))
    )
