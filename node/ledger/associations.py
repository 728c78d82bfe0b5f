"""Associations that brought images: their callers, their devices and whether they are open."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.association_endings import Ending
from node.ledger.states import AssociationEnding
from node.ledger.tables import association, commitment, conflict, excluded, instance, refusal

_OF_STUDY = instance.c.study_instance_uid == sa.bindparam("study")
_OF_SERIES = sa.and_(_OF_STUDY, instance.c.series_instance_uid == sa.bindparam("series"))
_DEVICES = (
    sa.select(sa.func.coalesce(sa.func.nullif(association.c.equipment, ""), association.c.peer_address))
    .join(instance, instance.c.association_id == association.c.id)
    .distinct()
)
_DEVICES_OF_STUDY, _DEVICES_OF_SERIES = _DEVICES.where(_OF_STUDY), _DEVICES.where(_OF_SERIES)
_OPEN_SENDERS = (
    sa.select(association.c.id)
    .join(instance, instance.c.association_id == association.c.id)
    .where(_OF_SERIES, association.c.closed_at.is_(None))
    .distinct()
)
"""Statements that the router executes for every series at every look are built once: building one takes longer than
executing it."""


@dataclass(frozen=True, kw_only=True)
class OpenAssociation:
    """An association that has begun to send instances."""

    id: str
    receiver: str
    """The member that serves it, as named in the spool (``Drafts.writer``); when it is dead, another one closes it."""
    calling_ae: str
    called_ae: str
    peer_address: str
    opened_at: float
    equipment: str = ""
    """Which device calls: its group, or its address (``node.receive.policy``); "": that of its address."""


class Call(NamedTuple):
    """The last association of a caller that brought images."""

    peer_address: str
    opened_at: float


def close_associations(connection: sa.Connection, ids: Collection[str], at: float, ending: Ending) -> None:
    """Mark associations closed; ids that never sent an instance have no row and do not matter."""
    ended = {"closed_at": at, "ending": ending.how, "ended_amid": ending.amid}
    connection.execute(association.update().where(association.c.id.in_(ids)).values(**ended))


def open_receivers(connection: sa.Connection) -> set[str]:
    """The receiver processes, living or dead, that have associations open."""
    return set(
        connection.scalars(sa.select(association.c.receiver).where(association.c.closed_at.is_(None)).distinct())
    )


def close_associations_of(connection: sa.Connection, receivers: Collection[str], at: float) -> int:
    """Close what dead receiver processes left open; return how many there were."""
    stale = association.c.receiver.in_(receivers) & association.c.closed_at.is_(None)
    return connection.execute(
        association.update().where(stale).values(closed_at=at, ending=AssociationEnding.KILLED)
    ).rowcount


def purge_associations(connection: sa.Connection, closed_before: float) -> None:
    """Delete associations that were closed before a time and of which no image, conflict or request is left."""
    columns = (instance.c.association_id, instance.c.repeated_by, conflict.c.association_id, excluded.c.association_id)
    others = (commitment.c.association_id, refusal.c.association_id)
    named = sa.union(*(sa.select(column).where(column.is_not(None)) for column in (*columns, *others)))
    connection.execute(
        sa.delete(association).where(association.c.closed_at < closed_before, association.c.id.not_in(named))
    )


def senders_of(connection: sa.Connection, study_instance_uid: str, series_instance_uid: str) -> list[tuple[str, str]]:
    """Calling AE title and address of every association that brought images of a series."""
    rows = connection.execute(
        sa.select(association.c.calling_ae, association.c.peer_address)
        .join(instance, instance.c.association_id == association.c.id)
        .where(
            instance.c.study_instance_uid == study_instance_uid, instance.c.series_instance_uid == series_instance_uid
        )
        .distinct()
        .order_by(association.c.calling_ae, association.c.peer_address)
    )
    return [(row.calling_ae, row.peer_address) for row in rows]


def equipment_of(connection: sa.Connection, study_instance_uid: str, series_instance_uid: str = "") -> str:
    """Return the device that sent a study or series; "" when there were several or it is unknown."""
    if series_instance_uid:
        this = {"study": study_instance_uid, "series": series_instance_uid}
        devices = connection.scalars(_DEVICES_OF_SERIES, this).all()
    else:
        devices = connection.scalars(_DEVICES_OF_STUDY, {"study": study_instance_uid}).all()
    return str(devices[0]) if len(devices) == 1 else ""


def occupied_bytes(connection: sa.Connection, calling_ae: str) -> int:
    """Size of the files that associations of this title brought and that are still kept."""
    return sum(
        connection.scalar(
            sa.select(sa.func.coalesce(sa.func.sum(table.c.size), 0))
            .join(association, association.c.id == table.c.association_id)
            .where(association.c.calling_ae == calling_ae)
        )
        or 0
        for table in (instance, conflict, excluded)
    )


def open_associations(connection: sa.Connection, study_instance_uid: str, series_instance_uid: str) -> frozenset[str]:
    """Ids of the open associations that have sent an image of a series."""
    this = {"study": study_instance_uid, "series": series_instance_uid}
    return frozenset(connection.scalars(_OPEN_SENDERS, this))


def open_sender(connection: sa.Connection, study_instance_uid: str) -> str | None:
    """Calling AE title of the oldest open association that has sent images of a study."""
    return connection.scalar(
        sa.select(association.c.calling_ae)
        .join(instance, instance.c.association_id == association.c.id)
        .where(instance.c.study_instance_uid == study_instance_uid, association.c.closed_at.is_(None))
        .order_by(association.c.opened_at)
        .limit(1)
    )


def last_calls(connection: sa.Connection, titles: Collection[str]) -> dict[str, Call]:
    """The last association of each of these calling AE titles, which are compared without spaces at their ends."""
    query = (
        sa.select(association.c.calling_ae, association.c.peer_address, association.c.opened_at)
        .where(sa.func.trim(association.c.calling_ae).in_(titles))
        .order_by(association.c.opened_at)
    )
    return {row.calling_ae.strip(): Call(row.peer_address, row.opened_at) for row in connection.execute(query)}


def open_by_receiver(connection: sa.Connection) -> dict[str, int]:
    """Count the open associations that have brought images, by the receiver that serves them."""
    query = sa.select(association.c.receiver, sa.func.count()).where(association.c.closed_at.is_(None))
    return dict(connection.execute(query.group_by(association.c.receiver)).all())
