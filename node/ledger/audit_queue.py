"""What the audit trail has not written yet: notices, ended associations, stored deliveries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.states import DeliveryState
from node.ledger.tables import association, delivery, delivery_instance, instance, job, notice, result


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    """A line for the audit trail that no other table holds."""

    id: int
    at: float
    what: str
    who: str
    address: str
    detail: str


def pending_notices(connection: sa.Connection, limit: int) -> list[AuditRecord]:
    """Oldest first."""
    rows = connection.execute(sa.select(notice).order_by(notice.c.id).limit(limit)).mappings()
    return [AuditRecord(**row) for row in rows]


def remove_notices(connection: sa.Connection, ids: Collection[int]) -> None:
    """They are written."""
    connection.execute(sa.delete(notice).where(notice.c.id.in_(ids)))


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Instances of one SOP Class and one study that were transferred together."""

    study_instance_uid: str
    sop_class_uid: str
    instances: int
    path: str
    """Of one of them."""


@dataclass(frozen=True, kw_only=True)
class EndedAssociation:
    """An association that sent to this node."""

    id: str
    calling_ae: str
    peer_address: str
    closed_at: float


def unaudited_associations(connection: sa.Connection, limit: int) -> list[EndedAssociation]:
    """Associations that have ended, oldest end first."""
    ended = sa.and_(association.c.closed_at.is_not(None), association.c.audited_at.is_(None))
    query = sa.select(*association.c[tuple(EndedAssociation.__dataclass_fields__)]).where(ended)
    rows = connection.execute(query.order_by(association.c.closed_at).limit(limit)).mappings()
    return [EndedAssociation(**row) for row in rows]


def mark_associations_audited(connection: sa.Connection, ids: Collection[str], at: float) -> None:
    """They are written."""
    connection.execute(sa.update(association).where(association.c.id.in_(ids)).values(audited_at=at))


def transfers_of_association(connection: sa.Connection, association_id: str) -> list[Transfer]:
    """What it brought, by study."""
    return _received(connection, instance.c.association_id == association_id)


@dataclass(frozen=True, kw_only=True)
class StoredDelivery:
    """A delivery that its destination has stored."""

    job_id: str
    destination: str
    first_sent_at: float
    last_sent_at: float


def unaudited_deliveries(connection: sa.Connection, limit: int) -> list[StoredDelivery]:
    """Deliveries that are stored or confirmed."""
    stored = delivery.c.state.in_((DeliveryState.STORED, DeliveryState.CONFIRMED))
    key = (delivery.c.job_id, delivery.c.destination)
    query = (
        sa.select(*key, sa.func.min(delivery_instance.c.sent_at), sa.func.max(delivery_instance.c.sent_at))
        .outerjoin(delivery_instance, sa.and_(*(delivery_instance.c[column.name] == column for column in key)))
        .where(stored, delivery.c.audited_at.is_(None))
        .group_by(*key)
        .limit(limit)
    )
    return [
        StoredDelivery(job_id=job_id, destination=destination, first_sent_at=first, last_sent_at=last)
        for job_id, destination, first, last in connection.execute(query)
    ]


def mark_deliveries_audited(connection: sa.Connection, written: Collection[StoredDelivery], at: float) -> None:
    """They are written."""
    for stored in written:
        this = sa.and_(delivery.c.job_id == stored.job_id, delivery.c.destination == stored.destination)
        connection.execute(sa.update(delivery).where(this).values(audited_at=at))


def transfers_of_delivery(connection: sa.Connection, of: StoredDelivery) -> list[Transfer]:
    """What was sent: results of the job, otherwise images that it sends on; by study."""
    sent = sa.select(delivery_instance.c.sop_instance_uid).where(
        delivery_instance.c.job_id == of.job_id, delivery_instance.c.destination == of.destination
    )
    study, sop_class = job.c.study_instance_uid, result.c.sop_class_uid
    query = (
        sa.select(study, sop_class, sa.func.count(), sa.func.min(result.c.path))
        .join(job, job.c.id == result.c.job_id)
        .where(result.c.job_id == of.job_id, result.c.sop_instance_uid.in_(sent))
        .group_by(study, sop_class)
        .order_by(study)
    )
    return _transfers(connection, query) or _received(connection, instance.c.sop_instance_uid.in_(sent))


def _received(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Transfer]:
    key = (instance.c.study_instance_uid, instance.c.sop_class_uid)
    query = sa.select(*key, sa.func.count(), sa.func.min(instance.c.path)).where(where).group_by(*key)
    return _transfers(connection, query.order_by(instance.c.study_instance_uid))


def _transfers(connection: sa.Connection, query: sa.Select[Any]) -> list[Transfer]:
    return [
        Transfer(study_instance_uid=study, sop_class_uid=sop_class, instances=number, path=path)
        for study, sop_class, number, path in connection.execute(query)
    ]
