"""Pending deliveries: queries about ``delivery`` and ``delivery_instance``.

A job delivers its results (``result``), or the images that it forwards (``original``).
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.clock_steps import passed
from node.ledger.jobs import job_ids_of
from node.ledger.key_ranges import KeyCondition
from node.ledger.progress import DeliveryProgress
from node.ledger.states import DeliveryState, JobState
from node.ledger.tables import delivery, delivery_instance, delivery_kind, instance, job, original, replaced, result

DUPLICATE = 0x0111
"""Duplicate SOP Instance (PS3.7 C.5.6). Our UIDs are derived from the content, so the peer holds this very object: the
answer to a repeat after an unconfirmed crash."""


def is_stored(status: int | None) -> bool:
    """Whether a C-STORE status means that the peer keeps the object: success, warning (PS3.4 B.2.3) or duplicate."""
    return status is not None and (status in (0x0000, DUPLICATE) or 0xB000 <= status <= 0xBFFF)


HELD = sa.and_(
    delivery_instance.c.status.is_not(None),
    sa.or_(delivery_instance.c.status.in_((0x0000, DUPLICATE)), delivery_instance.c.status.between(0xB000, 0xBFFF)),
)
"""Rows of ``delivery_instance`` whose object the destination keeps; see ``is_stored``."""
OVERDUE = sa.and_(
    delivery.c.alarmed_at.is_not(None),
    delivery.c.ended_at.is_(None),
    delivery.c.state.not_in((DeliveryState.CONFIRMED, DeliveryState.CANCELED)),
)
"""Deliveries that were reported as overdue and are still not done."""
_OWED = sa.and_(  # result rows that are pending in a delivery of the same job
    result.c.quarantine.is_(None),
    sa.or_(
        delivery.c.every_kind,
        sa.exists().where(
            delivery_kind.c.job_id == delivery.c.job_id,
            delivery_kind.c.destination == delivery.c.destination,
            delivery_kind.c.kind == result.c.kind,
        ),
    ),
)
_UIDS = ("sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "series_instance_uid")


@dataclass(frozen=True, kw_only=True)
class PendingObject:
    """An object that a destination must still store or confirm."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    study_instance_uid: str
    path: str
    """Relative to ``[storage] folder``."""
    size: int
    """Bytes of the file."""
    kind: str
    """As ``node.results`` names it; empty for an image that is sent on."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One object that a destination has stored."""

    job_id: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class DeliveryStatus(DeliveryProgress):
    """One line of ``ainode status``."""

    attempt: int
    next_at: float | None
    error: str | None
    created_at: float
    alarmed_at: float | None
    """When it was reported as overdue."""
    instances: int
    stored: int
    committed: int


def objects(where: sa.ColumnElement[bool]) -> sa.Subquery:
    """Every object that the deliveries of ``where`` are about: what the gate let pass, of the kinds that are taken.

    ``where`` is a condition on ``delivery`` and ``job``; it is applied before the kinds of objects are united.
    """
    of_job = sa.and_(job.c.id == delivery.c.job_id, where)
    of_delivery = (delivery.c.job_id, delivery.c.destination, job.c.study_instance_uid)
    results = (
        sa.select(
            *of_delivery,
            *result.c[*_UIDS, "path", "size"],
            sa.func.coalesce(result.c.kind, "").label("kind"),
            result.c.created_at.label("at"),
        )
        .select_from(delivery)
        .join(job, of_job)
        .join(result, sa.and_(result.c.job_id == job.c.id, _OWED))
    )
    forwarded = (
        sa.select(
            *of_delivery,
            *instance.c[*_UIDS, "path", "size"],
            sa.literal("").label("kind"),
            instance.c.received_at.label("at"),
        )
        .select_from(delivery)
        .join(job, of_job)
        .join(original, original.c.job_id == job.c.id)
        .join(instance, instance.c.sop_instance_uid == original.c.sop_instance_uid)
    )
    return sa.union_all(results, forwarded).subquery("object")


def kinds_of(connection: sa.Connection, job_id: str) -> dict[str, set[str] | None]:
    """Kinds of results that each delivery of a job is about, by destination; ``None``: every kind."""
    here = sa.and_(delivery_kind.c.job_id == delivery.c.job_id, delivery_kind.c.destination == delivery.c.destination)
    query = sa.select(delivery.c.destination, delivery.c.every_kind, delivery_kind.c.kind).outerjoin(
        delivery_kind, here
    )
    kinds: dict[str, set[str] | None] = {}
    for row in connection.execute(query.where(delivery.c.job_id == job_id).order_by(delivery.c.destination)):
        of = kinds.setdefault(row.destination, None if row.every_kind else set())
        if of is not None and row.kind is not None:
            of.add(row.kind)
    return kinds


def instances_to_store(connection: sa.Connection, job_id: str, destination: str) -> list[PendingObject]:
    """The job's objects that the destination has not stored: those not tried yet first, then oldest first.

    One that takes all the time of an attempt, and is not stored, keeps no other from its turn.
    """
    which = objects(_of(job_id, destination))
    return _pending(connection, which, _answer_of(which), sa.or_(delivery_instance.c.job_id.is_(None), ~HELD))


def instances_to_confirm(
    connection: sa.Connection, job_id: str, destination: str, asked_before: float | None = None
) -> list[PendingObject]:
    """Stored objects without proof; with a time: without a request for it that is later than that."""
    which = objects(_of(job_id, destination))
    open_ = sa.and_(HELD, delivery_instance.c.committed_at.is_(None))
    if asked_before is not None:
        asked_at = delivery_instance.c.asked_at
        open_ = sa.and_(open_, sa.or_(asked_at.is_(None), passed(asked_at, asked_before)))
    return _pending(connection, which, _answer_of(which), open_)


def is_held(connection: sa.Connection, destination: str, sop_instance_uid: str) -> bool:
    """Whether a destination has stored a result of any job, of which this may be an earlier version."""
    jobs = [sa.select(t.c.job_id).where(t.c.sop_instance_uid == sop_instance_uid) for t in (result, replaced)]
    columns = delivery_instance.c
    there = sa.and_(columns.destination == destination, columns.sop_instance_uid == sop_instance_uid, HELD)
    query = sa.select(columns.job_id).where(columns.job_id.in_(sa.union(*jobs)), there)
    return connection.scalar(query.limit(1)) is not None


def is_overdue(status: DeliveryStatus) -> bool:
    """Whether a delivery was reported as overdue and is still not done."""
    return (
        status.alarmed_at is not None
        and status.ended_at is None
        and status.state not in (DeliveryState.CONFIRMED, DeliveryState.CANCELED)
    )


def is_unanswered(connection: sa.Connection, job_id: str, destination: str, asked_before: float) -> bool:
    """Whether proof of any object was asked for before a time and has not come."""
    columns = delivery_instance.c
    late = sa.and_(columns.committed_at.is_(None), passed(columns.asked_at, asked_before))
    ours = sa.and_(columns.job_id == job_id, columns.destination == destination)
    return connection.scalar(sa.select(columns.job_id).where(ours, late).limit(1)) is not None


def stored_since(connection: sa.Connection, destination: str, sent_after: float) -> list[Stored]:
    """What a destination took after a time, of deliveries that are done and of jobs that were not cancelled."""
    done = sa.and_(
        delivery.c.destination == destination, delivery.c.state.in_((DeliveryState.STORED, DeliveryState.CONFIRMED))
    )
    which = objects(sa.and_(done, job.c.state != JobState.CANCELED))
    query = (
        sa.select(*which.c[tuple(Stored.__dataclass_fields__)])
        .join(delivery_instance, _answer_of(which))
        .where(HELD, delivery_instance.c.sent_at >= sent_after, ~_withdrawn(which, destination))
    )
    return [Stored(**row) for row in connection.execute(query).mappings()]


def _withdrawn(which: sa.Subquery, destination: str) -> sa.ColumnElement[bool]:
    """A note asked the destination to hide the object: it need not show it any more."""
    return sa.exists().where(
        replaced.c.destination == destination,
        replaced.c.sop_instance_uid == which.c.sop_instance_uid,
        replaced.c.note_uid != "",
    )


def deliveries_of(connection: sa.Connection, job_id: str) -> list[DeliveryStatus]:
    """Every delivery of a job, by destination."""
    return statuses(connection, delivery.c.job_id == job_id)


def overdue_deliveries(connection: sa.Connection) -> list[DeliveryStatus]:
    """Every delivery that was reported as overdue and is still not done, oldest first."""
    return statuses(connection, OVERDUE)


def deliveries_of_studies(connection: sa.Connection, of_studies: KeyCondition) -> list[DeliveryStatus]:
    """Every delivery of some studies, oldest first."""
    return statuses(connection, job_ids_of(of_studies)(delivery.c.job_id))


def statuses(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[DeliveryStatus]:
    """The deliveries of a condition on ``delivery``, with how many of their objects are where; oldest first."""
    which = objects(where)
    query = (
        sa.select(
            delivery,
            sa.func.count(which.c.sop_instance_uid).label("instances"),
            sa.func.coalesce(sa.func.sum(sa.case((HELD, 1), else_=0)), 0).label("stored"),
            sa.func.count(delivery_instance.c.committed_at).label("committed"),
        )
        .select_from(delivery)
        .outerjoin(which, sa.and_(which.c.job_id == delivery.c.job_id, which.c.destination == delivery.c.destination))
        .outerjoin(delivery_instance, _answer_of(which))
        .where(where)
        .group_by(*delivery.c)
        .order_by(delivery.c.created_at, delivery.c.destination)
    )
    names = tuple(DeliveryStatus.__dataclass_fields__)
    return [
        DeliveryStatus(
            **{name: row[name] for name in names}
            | {"state": DeliveryState(row["state"]), "stored": int(row["stored"])}  # PostgreSQL sums to a Decimal
        )
        for row in connection.execute(query).mappings()
    ]


def _of(job_id: str, destination: str) -> sa.ColumnElement[bool]:
    return sa.and_(delivery.c.job_id == job_id, delivery.c.destination == destination)


def _answer_of(which: sa.Subquery) -> sa.ColumnElement[bool]:
    key = ("job_id", "destination", "sop_instance_uid")
    return sa.and_(*(delivery_instance.c[name] == which.c[name] for name in key))


def _pending(
    connection: sa.Connection, which: sa.Subquery, answer: sa.ColumnElement[bool], where: sa.ColumnElement[bool]
) -> list[PendingObject]:
    query = (
        sa.select(*which.c[tuple(PendingObject.__dataclass_fields__)]).outerjoin(delivery_instance, answer).where(where)
    )
    rows = connection.execute(
        query.order_by(delivery_instance.c.job_id.is_not(None), which.c["at"], which.c.sop_instance_uid)
    ).mappings()
    return [PendingObject(**row) for row in rows]
