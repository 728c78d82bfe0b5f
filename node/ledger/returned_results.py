"""Results that come back from a destination which got images under pseudonyms: what was sent, and what came."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.states import SeriesState
from node.ledger.tables import delivery, delivery_instance, instance, job, series


@dataclass(frozen=True, kw_only=True)
class SentSeries:
    """A series of which images were sent."""

    study_instance_uid: str
    series_instance_uid: str
    generation: int
    """The latest one."""


def series_sent_to(connection: sa.Connection, destination: str) -> list[SentSeries]:
    """Every series of which a destination has images, as they were received here."""
    sent = sa.exists().where(
        delivery_instance.c.job_id == delivery.c.job_id,
        delivery_instance.c.destination == destination,
        delivery_instance.c.status == 0,
    )
    key = (series.c.study_instance_uid, series.c.series_instance_uid)
    query = (
        sa.select(*key, series.c.generation)
        .join(job, sa.and_(job.c.study_instance_uid == key[0], job.c.series_instance_uid == key[1]))
        .join(delivery, delivery.c.job_id == job.c.id)
        .where(job.c.pipeline == FORWARD, delivery.c.destination == destination, sent)
        .distinct()
    )
    return [
        SentSeries(study_instance_uid=study, series_instance_uid=uid, generation=generation)
        for study, uid, generation in connection.execute(query)
    ]


def returned_paths(connection: sa.Connection, study: str) -> list[str]:
    """Files of the complete series of a study, which has the pseudonym of another one as its UID."""
    query = (
        sa.select(instance.c.path)
        .join(
            series,
            sa.and_(
                series.c.study_instance_uid == instance.c.study_instance_uid,
                series.c.series_instance_uid == instance.c.series_instance_uid,
            ),
        )
        .where(instance.c.study_instance_uid == study, series.c.state == SeriesState.COMPLETE)
        .order_by(instance.c.sop_instance_uid)
    )
    return list(connection.scalars(query))
