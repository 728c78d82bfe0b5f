"""Corrections: series received again completely with a new identity replace the old files and outdate their results.

Rows change places, files stay where they are. A ledger that is rebuilt from the files comes to the same end.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.conflicts import SAME_IMAGE
from node.ledger.events import EventKind, record_study_event
from node.ledger.instances import update_size
from node.ledger.pending_deliveries import HELD
from node.ledger.states import ConflictKind, JobState, SeriesState
from node.ledger.tables import conflict, delivery, delivery_instance, instance, job, result, series

_OF_FILE = ("path", "digest", "size", "association_id", "received_at", "transfer_syntax_uid")
_CORRECTED = sa.and_(
    conflict.c.kind == ConflictKind.IDENTITY,
    conflict.c.replaced_at.is_(None),
    SAME_IMAGE,
)


def corrected_series(connection: sa.Connection) -> list[tuple[str, str]]:
    """Study and Series Instance UID of those of which every image has another identity by now."""
    key = (series.c.study_instance_uid, series.c.series_instance_uid)
    again = (
        sa.select(*key)
        .join(conflict, sa.and_(*(conflict.c[column.name] == column for column in key)))
        .join(instance, _CORRECTED)
        .group_by(*key, series.c.instances)
        .having(sa.func.count(instance.c.sop_instance_uid.distinct()) == series.c.instances)
    )
    return [(row[0], row[1]) for row in connection.execute(again)]


@dataclass(frozen=True, kw_only=True)
class HalfCorrected:
    """A series of which only some images have the new identity, with an analysis that waits for the others."""

    study_instance_uid: str
    series_instance_uid: str
    job_id: str
    """Cancelled, because images of two identities are no series; ``retry`` takes the first identity."""
    again: int
    """Images that were received again."""
    images: int
    changed: str
    """Keywords of what they say otherwise."""


def half_corrected(connection: sa.Connection, study: str | None = None) -> list[HalfCorrected]:
    """What nobody but people can decide, of one study or of all: send the other images as well, or retry the job."""
    key = (job.c.study_instance_uid, job.c.series_instance_uid)
    again = sa.func.count(conflict.c.sop_instance_uid.distinct())
    query = (
        sa.select(*key, job.c.id, again, series.c.instances, sa.func.min(conflict.c.changed))
        .join(conflict, sa.and_(*(conflict.c[column.name] == column for column in key)))
        .join(instance, _CORRECTED)
        .join(series, sa.and_(*(series.c[column.name] == column for column in key)))
        .where(job.c.state == JobState.CANCELED, job.c.generation == series.c.generation)
        .where(job.c.updated_at >= conflict.c.received_at)
        .group_by(*key, job.c.id, series.c.instances)
        .having(again < series.c.instances)
        .order_by(*key, job.c.id)
    )
    if study is not None:
        query = query.where(job.c.study_instance_uid == study)
    names = HalfCorrected.__dataclass_fields__
    return [HalfCorrected(**dict(zip(names, row, strict=True))) for row in connection.execute(query)]


def adopt(connection: sa.Connection, study: str, of: str, at: float) -> None:
    """Let the latest files count from ``at`` (seconds since 1970 UTC) on; what was made of the others is made again."""
    where = {"study_instance_uid": study, "series_instance_uid": of}
    this = sa.and_(*(conflict.c[name] == uid for name, uid in where.items()))
    query = sa.select(conflict, *(instance.c[name].label(f"old_{name}") for name in _OF_FILE)).join(
        instance, _CORRECTED
    )
    rows = connection.execute(query.where(this).order_by(conflict.c.received_at)).mappings().all()
    for row in {row["sop_instance_uid"]: row for row in rows}.values():
        new = {name: row[name] for name in _OF_FILE} | {"received_at": at}
        new["transfer_syntax_uid"] = new["transfer_syntax_uid"] or row["old_transfer_syntax_uid"]
        old = {name: row[f"old_{name}"] for name in _OF_FILE}
        here = instance.c.sop_instance_uid == row["sop_instance_uid"]
        connection.execute(sa.update(instance).where(here).values(**new))
        connection.execute(sa.update(conflict).where(conflict.c.path == row["path"]).values(**old))
    connection.execute(sa.update(conflict).where(this, conflict.c.kind == ConflictKind.IDENTITY).values(replaced_at=at))
    same = sa.and_(*(series.c[name] == uid for name, uid in where.items()))
    connection.execute(sa.update(series).where(same).values(state=SeriesState.RECEIVING, last_at=at))
    update_size(connection, study, of)
    changed = ", ".join(sorted({keyword for row in rows for keyword in row["changed"].split(", ")}))
    record_study_event(connection, EventKind.IDENTITY_CORRECTED, at=at, **where, keywords=changed)


@dataclass(frozen=True, kw_only=True)
class Outdated:
    """A delivery of results with an outdated identity."""

    study_instance_uid: str
    series_instance_uid: str
    job_id: str
    destination: str
    changed: str
    """Keywords of what the images now say otherwise."""


def outdated_deliveries(connection: sa.Connection, study: str | None = None) -> list[Outdated]:
    """What a destination holds of images received again with another identity; of one study or of all.

    Of images that are sent on only while the old identity counts, of results until they are retracted.
    """
    replaced = sa.and_(conflict.c.replaced_at > job.c.created_at, job.c.pipeline != FORWARD)
    held = sa.exists().where(
        delivery_instance.c.job_id == job.c.id, delivery_instance.c.destination == delivery.c.destination, HELD
    )
    retracted = sa.exists().where(result.c.job_id == job.c.id, result.c.kind == "rejection")
    query = (
        sa.select(
            job.c.study_instance_uid,
            job.c.series_instance_uid,
            job.c.id.label("job_id"),
            delivery.c.destination,
            sa.func.min(conflict.c.changed).label("changed"),
        )
        .select_from(conflict)
        .join(instance, SAME_IMAGE)
        .join(
            job,
            sa.and_(
                job.c.study_instance_uid == instance.c.study_instance_uid,
                job.c.series_instance_uid == instance.c.series_instance_uid,
            ),
        )
        .join(delivery, delivery.c.job_id == job.c.id)
        .where(
            conflict.c.kind == ConflictKind.IDENTITY,
            sa.or_(conflict.c.replaced_at.is_(None), replaced),
            held,
            ~retracted,
        )
        .group_by(job.c.study_instance_uid, job.c.series_instance_uid, job.c.id, delivery.c.destination)
        .order_by(job.c.id, delivery.c.destination)
    )
    if study is not None:
        query = query.where(job.c.study_instance_uid == study)
    return [Outdated(**row) for row in connection.execute(query).mappings()]
