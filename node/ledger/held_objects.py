"""The objects of studies that a viewer may see: received images, and the results that stand.

Left out are series that are held, as their images contradict one another on identity, and results that the gate holds
back, that were kept in shadow, replaced by a later analysis of the series, or retracted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import sqlalchemy as sa

from node.ledger.engine import among
from node.ledger.held_series import held
from node.ledger.jobs import REJECTION
from node.ledger.tables import instance, job, result


@dataclass(frozen=True, kw_only=True)
class HeldObject:
    """One object and its file."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    """Relative to ``[storage] folder``."""


_COLUMNS = ("series_instance_uid", "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "path")
_OF_OBJECT = ("study_instance_uid", *_COLUMNS)


def objects_of_studies(connection: sa.Connection, studies: Collection[str]) -> dict[str, list[HeldObject]]:
    """Return the objects of each of ``studies``: images in the order of arrival, then results."""
    objects: dict[str, list[HeldObject]] = {study: [] for study in studies}
    for held_object in _held_objects(connection, studies):
        objects[held_object.study_instance_uid].append(held_object)
    return objects


def objects_of_study(connection: sa.Connection, study: str, series: str = "", sop: str = "") -> list[HeldObject]:
    """Return the objects of a study, of one of its series, or one object."""
    wanted = {"series_instance_uid": series, "sop_instance_uid": sop}
    return list(_held_objects(connection, [study], {name: uid for name, uid in wanted.items() if uid}))


def _held_objects(
    connection: sa.Connection, studies: Collection[str], wanted: Mapping[str, str] = MappingProxyType({})
) -> Iterator[HeldObject]:
    """``wanted``: UIDs that the objects have, by column."""
    withheld = {
        (held_series.study_instance_uid, held_series.series_instance_uid)
        for study in studies
        for held_series in held(connection, study)
        if not held_series.job_id
    }
    of_studies = among(connection, instance.c.study_instance_uid, studies)
    of_images = [instance.c[name] == uid for name, uid in wanted.items()]
    images = sa.select(*instance.c[_OF_OBJECT]).where(of_studies, *of_images).order_by(instance.c.received_at)
    for row in connection.execute(images).mappings():
        if (row["study_instance_uid"], row["series_instance_uid"]) not in withheld:
            yield HeldObject(**row)
    later, notes, later_result = job.alias(), result.alias(), result.alias()
    is_replaced = sa.exists().where(
        later.c.study_instance_uid == job.c.study_instance_uid,
        later.c.series_instance_uid == job.c.series_instance_uid,
        later.c.pipeline == job.c.pipeline,
        later.c.generation > job.c.generation,
        later.c.shadow.is_(None),
        later_result.c.job_id == later.c.id,
        later_result.c.quarantine.is_(None),
    )
    is_retracted = sa.exists().where(notes.c.job_id == job.c.id, notes.c.kind == REJECTION)
    results = (
        sa.select(job.c.study_instance_uid, *result.c[_COLUMNS])
        .join(job, job.c.id == result.c.job_id)
        .where(
            among(connection, job.c.study_instance_uid, studies),
            *(result.c[name] == uid for name, uid in wanted.items()),
            result.c.quarantine.is_(None),
            job.c.shadow.is_(None),
            ~sa.func.coalesce(result.c.kind, "").startswith(REJECTION),
            ~is_replaced,
            ~is_retracted,
        )
        .order_by(result.c.created_at)
    )
    for row in connection.execute(results).mappings():
        yield HeldObject(**row)
