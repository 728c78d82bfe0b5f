"""Results that come back from a destination which got images under pseudonyms: what was sent, and what came."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.alerts import NamedCount
from node.ledger.states import DeliveryState, SeriesState
from node.ledger.tables import delivery, instance, job, series


@dataclass(frozen=True, kw_only=True)
class SentSeries:
    """A series of which images are sent."""

    study_instance_uid: str
    series_instance_uid: str
    generation: int
    """The latest one."""


def series_sent_to(connection: sa.Connection, destination: str) -> list[SentSeries]:
    """Every series of which images go to a destination, as they were received here."""
    query = sa.select(*_SERIES, series.c.generation).select_from(_FORWARDED).where(*_sent_to(destination)).distinct()
    return [
        SentSeries(study_instance_uid=study, series_instance_uid=uid, generation=generation)
        for study, uid, generation in connection.execute(query)
    ]


def series_without_return(
    connection: sa.Connection, destination: str, pipeline: str, since: float, before: float
) -> NamedCount | None:
    """Series that were sent to a destination between two times, and of which nothing came back for ``pipeline``."""
    reader = job.alias("reader")
    came = sa.exists().where(
        reader.c.pipeline == pipeline,
        reader.c.study_instance_uid == series.c.study_instance_uid,
        reader.c.series_instance_uid == series.c.series_instance_uid,
    )
    last = sa.func.max(delivery.c.updated_at).label("last")
    is_sent = delivery.c.state.in_((DeliveryState.STORED, DeliveryState.CONFIRMED))
    sent = (
        sa.select(*_SERIES, last)
        .select_from(_FORWARDED)
        .where(*_sent_to(destination), is_sent, ~came)
        .group_by(*_SERIES)
        .having(last >= since, last < before)
        .subquery()
    )
    number, oldest = connection.execute(sa.select(sa.func.count(), sa.func.min(sent.c.last))).one()
    return NamedCount(name=destination, number=number, oldest=oldest) if number else None


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


_SERIES = (series.c.study_instance_uid, series.c.series_instance_uid)
_FORWARDED = series.join(job, sa.and_(*(job.c[of.name] == of for of in _SERIES))).join(
    delivery, delivery.c.job_id == job.c.id
)


def _sent_to(destination: str) -> tuple[sa.ColumnElement[bool], ...]:
    return job.c.pipeline == FORWARD, delivery.c.destination == destination
