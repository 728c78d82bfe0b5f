"""Results that come back from a destination which got images under pseudonyms: what was sent, and what came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.alerts import NamedCount
from node.ledger.events import EventKind
from node.ledger.states import DecisionOutcome, DeliveryState, JobStage, SeriesState
from node.ledger.tables import decision, delivery, event, instance, job, series
from node.reasons import ReasonCode


@dataclass(frozen=True, kw_only=True)
class SentSeries:
    """A series of which images are sent."""

    study_instance_uid: str
    series_instance_uid: str
    generation: int
    """The latest one."""


def series_sent_to(connection: sa.Connection, destination: str, study: str = "") -> list[SentSeries]:
    """Every series of which images go to a destination, as they were received here; ``study``: of it only."""
    query = sa.select(*_SERIES, series.c.generation).select_from(_FORWARDED).where(*_sent_to(destination)).distinct()
    if study:
        query = query.where(series.c.study_instance_uid == study)
    return [
        SentSeries(study_instance_uid=study, series_instance_uid=uid, generation=generation)
        for study, uid, generation in connection.execute(query)
    ]


def series_without_return(
    connection: sa.Connection, destination: str, pipeline: str, since: float, before: float
) -> NamedCount | None:
    """Series that were sent to a destination between two times, and of which nothing came back for ``pipeline``.

    What came back of an earlier generation does not count. What came back about another series of the study counts for
    all series that it names.
    """
    reader = job.alias("reader")
    came = sa.exists().where(
        reader.c.pipeline == pipeline,
        reader.c.study_instance_uid == series.c.study_instance_uid,
        reader.c.series_instance_uid == series.c.series_instance_uid,
        reader.c.generation == series.c.generation,
    )
    last = sa.func.max(delivery.c.updated_at).label("last")
    is_sent = delivery.c.state.in_((DeliveryState.STORED, DeliveryState.CONFIRMED))
    sent = (
        sa.select(series.c.series_instance_uid, last)
        .select_from(_FORWARDED)
        .where(*_sent_to(destination), is_sent, ~came)
        .group_by(*_SERIES)
        .having(last >= since, last < before)
    )
    named = _named_by_returns(connection, since)
    times = [at for uid, at in connection.execute(sent) if named.get(uid, 0.0) < at]
    return NamedCount(name=destination, number=len(times), oldest=min(times)) if times else None


def _named_by_returns(connection: sa.Connection, since: float) -> dict[str, float]:
    """When something last came back that names a series, also as one of several that it was made of."""
    query = (
        sa.select(decision.c.reason, decision.c.decided_at)
        .where(decision.c.outcome == DecisionOutcome.IGNORED, decision.c.decided_at >= since)
        .order_by(decision.c.decided_at)
    )
    return {
        uid: decided_at
        for why, decided_at in connection.execute(query)
        if not isinstance(why, str) and why["code"] in (ReasonCode.RETURNED, ReasonCode.RETURNED_LATER)
        for uid in why["series"]
    }


def returned_paths(connection: sa.Connection, study: str, job_id: str) -> list[str]:
    """Files of the series that came back for a job; ``study``: the pseudonym of its study."""
    decided = connection.execute(
        sa.select(decision.c.series_instance_uid, decision.c.reason)
        .join(series, _LATEST)
        .where(decision.c.study_instance_uid == study)
    )
    came = {uid for uid, why in decided if not isinstance(why, str) and job_id in why.get("jobs", ())}
    query = sa.select(instance.c.series_instance_uid, instance.c.path).where(instance.c.study_instance_uid == study)
    return [path for uid, path in connection.execute(query.order_by(instance.c.sop_instance_uid)) if uid in came]


def returned_objects(connection: sa.Connection, study: str) -> dict[str, str]:
    """Series of each object that came back in a study; ``study``: its pseudonym."""
    query = sa.select(instance.c.sop_instance_uid, instance.c.series_instance_uid)
    rows = connection.execute(query.where(instance.c.study_instance_uid == study))
    return {row.sop_instance_uid: row.series_instance_uid for row in rows}


def still_arriving(connection: sa.Connection, study: str) -> bool:
    """Whether a series of a study is not complete yet."""
    receiving = sa.and_(series.c.study_instance_uid == study, series.c.state == SeriesState.RECEIVING)
    return bool(connection.scalar(sa.select(sa.exists().where(receiving))))


def last_arrival_of_others(connection: sa.Connection, study: str, series_uid: str) -> float | None:
    """When the last image came of the other series of a study that are not complete; ``None`` without such."""
    others = sa.and_(
        series.c.study_instance_uid == study,
        series.c.series_instance_uid != series_uid,
        series.c.state == SeriesState.RECEIVING,
    )
    return connection.scalar(sa.select(sa.func.max(series.c.last_at)).where(others))


def came_before_reading(connection: sa.Connection, study: str, series_uid: str, job_id: str) -> bool:
    """Whether all of a series was here when the latest analysis of a job began, or none has begun."""
    last = sa.select(series.c.last_at).where(
        series.c.study_instance_uid == study, series.c.series_instance_uid == series_uid
    )
    begun, last_at = connection.scalar(_begun(job_id)), connection.scalar(last)
    return begun is None or (last_at is not None and last_at < begun)


def unread_returns(connection: sa.Connection, since: float) -> list[NamedCount]:
    """Count series that came back after their job had read the others and that no later analysis of it has read."""
    times: dict[str, list[float]] = {}
    for why, decided_at in connection.execute(
        sa.select(decision.c.reason, decision.c.decided_at)
        .join(series, _LATEST)
        .where(decision.c.outcome == DecisionOutcome.IGNORED, decision.c.decided_at >= since)
    ):
        if not isinstance(why, str) and why["code"] == ReasonCode.RETURNED_LATER:
            for job_id in why["late"]:
                times.setdefault(job_id, []).append(decided_at)
    counts = []
    for job_id, decided in times.items():
        begun = connection.scalar(_begun(job_id)) or 0.0
        if unread := [at for at in decided if at > begun]:
            counts.append(NamedCount(name=job_id, number=len(unread), oldest=min(unread)))
    return counts


def _begun(job_id: str) -> sa.Select[Any]:
    """When the latest analysis of a job began."""
    return sa.select(sa.func.max(event.c.at)).where(
        event.c.job_id == job_id, event.c.kind == EventKind.ATTEMPT_STARTED, event.c.stage == JobStage.INFER
    )


_LATEST = sa.and_(
    series.c.study_instance_uid == decision.c.study_instance_uid,
    series.c.series_instance_uid == decision.c.series_instance_uid,
    series.c.generation == decision.c.generation,
)
_SERIES = (series.c.study_instance_uid, series.c.series_instance_uid)
_FORWARDED = series.join(job, sa.and_(*(job.c[of.name] == of for of in _SERIES))).join(
    delivery, delivery.c.job_id == job.c.id
)


def _sent_to(destination: str) -> tuple[sa.ColumnElement[bool], ...]:
    return job.c.pipeline == FORWARD, delivery.c.destination == destination
