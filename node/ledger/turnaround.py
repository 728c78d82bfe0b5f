"""Analyses that reached all their destinations, with the time of the last image before and of the last proof."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.events import EventKind
from node.ledger.jobs import PROGRESS
from node.ledger.states import DeliveryState, JobStage, JobState
from node.ledger.tables import decision, delivery, delivery_instance, event, job, job_fact

_JOB = tuple(job.c["id", "study_instance_uid", "pipeline"])
_PORTION = 200
"""Studies that are read at once."""
_LATEST = 500
"""Analyses of which stages are read together: a median needs no more."""
_DONE = sa.case(
    (delivery.c.state == DeliveryState.CONFIRMED, delivery.c.updated_at),
    (delivery.c.state == DeliveryState.STORED, delivery.c.ended_at),
)
_OF_DECISION = sa.and_(
    decision.c.study_instance_uid == job.c.study_instance_uid,
    decision.c.series_instance_uid == job.c.series_instance_uid,
    decision.c.generation == job.c.generation,
)


@dataclass(frozen=True, kw_only=True)
class DeliveredAnalysis:
    """One analysis."""

    job_id: str
    study_instance_uid: str
    pipeline: str
    scanner: str
    """As its images name it; empty: not known."""
    last_image_at: float
    """Seconds since 1970 UTC, of the images that the analysis used; later images of the series do not count."""
    arrived_at: float
    """When the last destination confirmed, or had stored everything where no proof is configured."""

    @property
    def seconds(self) -> float:
        """Its turnaround; 0 when the clock was set back in between."""
        return max(self.arrived_at - self.last_image_at, 0.0)


def arrived_since(connection: sa.Connection, since: float) -> list[DeliveredAnalysis]:
    """Analyses that reached all their destinations at or after ``since``, oldest first."""
    last = sa.func.max(_DONE)
    image_at = sa.func.max(decision.c.last_image_at)
    query = (
        sa.select(
            *_JOB,
            sa.func.max(job_fact.c.scanner).label("scanner"),
            image_at.label("last_image_at"),
            last.label("arrived_at"),
        )
        .join(delivery, delivery.c.job_id == job.c.id)
        .join(decision, _OF_DECISION)
        .join(job_fact, job_fact.c.job_id == job.c.id, isouter=True)
        .where(job.c.state == JobState.COMPLETED, job.c.updated_at >= since, job.c.pipeline != FORWARD)
        .where(decision.c.last_image_at.is_not(None))
        .group_by(*_JOB)
        .having(sa.func.count(_DONE) == sa.func.count(), last >= since)
        .order_by(last)
    )
    return [
        DeliveredAnalysis(
            job_id=row.id,
            study_instance_uid=row.study_instance_uid,
            pipeline=row.pipeline,
            scanner=row.scanner or "",
            last_image_at=row.last_image_at,
            arrived_at=row.arrived_at,
        )
        for row in connection.execute(query)
    ]


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """When a job passed each of its stages, in seconds since 1970 UTC; ``None``: it has not yet, or never will."""

    job_id: str
    last_image_at: float | None
    """Of the images that it analyses; ``None``: decided before this was kept."""
    scheduled_at: float
    begun_at: float | None
    """Its first attempt on a device."""
    analysed_at: float | None
    """Its last attempt there."""
    encoded_at: float | None
    sent_at: float | None
    """The last object to the last destination."""
    arrived_at: float | None
    """Proof of the last destination, or its last object where no proof is configured."""


def stage_times(connection: sa.Connection, studies: Collection[str]) -> list[StageTimes]:
    """Stages of all analyses of some studies, oldest first."""
    every, times = sorted(studies), list[StageTimes]()
    for begin in range(0, len(every), _PORTION):
        times += _stage_times(connection, every[begin : begin + _PORTION])
    return times


def stages_by_pipeline(connection: sa.Connection, arrived: Sequence[DeliveredAnalysis]) -> dict[str, list[StageTimes]]:
    """Stages of the latest 500 of ``arrived``, which are in the order of their arrival, by pipeline."""
    latest = {analysis.job_id: analysis for analysis in arrived[-_LATEST:]}
    stages: dict[str, list[StageTimes]] = {}
    for times in stage_times(connection, {of.study_instance_uid for of in latest.values()}):
        if times.job_id in latest:
            stages.setdefault(latest[times.job_id].pipeline, []).append(times)
    return stages


def _stage_times(connection: sa.Connection, studies: Sequence[str]) -> Iterator[StageTimes]:
    def latest(kind: EventKind, stage: JobStage) -> sa.ColumnElement[float | None]:
        return sa.func.max(sa.case((sa.and_(event.c.kind == kind, event.c.stage == stage), event.c.at)))

    begun = sa.and_(event.c.kind == EventKind.ATTEMPT_STARTED, event.c.stage == JobStage.INFER)
    attempts = (
        sa.select(
            event.c.job_id,
            sa.func.min(sa.case((begun, event.c.at))).label("begun_at"),
            latest(EventKind.ATTEMPT_FINISHED, JobStage.INFER).label("analysed_at"),
            latest(EventKind.ATTEMPT_FINISHED, JobStage.ENCODE).label("encoded_at"),
        )
        .where(event.c.study_instance_uid.in_(studies), event.c.job_id.is_not(None))
        .group_by(event.c.job_id)
        .subquery()
    )
    of_studies = sa.select(job.c.id).where(job.c.study_instance_uid.in_(studies))
    sent = (
        sa.select(delivery_instance.c.job_id, sa.func.max(delivery_instance.c.sent_at).label("sent_at"))
        .where(delivery_instance.c.job_id.in_(of_studies))
        .group_by(delivery_instance.c.job_id)
        .subquery()
    )
    done = (
        sa.select(delivery.c.job_id, sa.func.max(_DONE).label("arrived_at"))
        .where(delivery.c.job_id.in_(of_studies))
        .group_by(delivery.c.job_id)
        .having(sa.func.count(_DONE) == sa.func.count())
        .subquery()
    )
    query = (
        sa.select(
            job.c.id.label("job_id"),
            decision.c.last_image_at,
            job.c.created_at.label("scheduled_at"),
            *attempts.c["begun_at", "analysed_at", "encoded_at"],
            sent.c.sent_at,
            done.c.arrived_at,
        )
        .outerjoin(decision, _OF_DECISION)
        .outerjoin(attempts, attempts.c.job_id == job.c.id)
        .outerjoin(sent, sent.c.job_id == job.c.id)
        .outerjoin(done, done.c.job_id == job.c.id)
        .where(job.c.study_instance_uid.in_(studies), job.c.pipeline != FORWARD)
        .order_by(job.c.created_at, job.c.id)
    )
    return (StageTimes(**row) for row in connection.execute(query).mappings())


@dataclass(frozen=True, kw_only=True)
class OtherAnalysis:
    """An analysis that a job waited for."""

    job_id: str
    pipeline: str
    ended_at: float


def analyses_between(connection: sa.Connection, job_id: str, begin: float, end: float) -> list[OtherAnalysis]:
    """Analyses that ended while a job waited, oldest first, on its device when that is known."""
    device = connection.scalar(sa.select(job_fact.c.device).where(job_fact.c.job_id == job_id))
    query = sa.select(job_fact.c.job_id, job_fact.c.pipeline, job_fact.c.at.label("ended_at"))
    query = query.where(job_fact.c.at > begin, job_fact.c.at <= end, job_fact.c.job_id != job_id)
    if device is not None:
        query = query.where(job_fact.c.device == device)
    return [OtherAnalysis(**row) for row in connection.execute(query.order_by(job_fact.c.at)).mappings()]


def running_analyses(connection: sa.Connection) -> list[OtherAnalysis]:
    """Analyses that a device works on now, in the order in which they began."""
    query = sa.select(job.c.id.label("job_id"), job.c.pipeline, PROGRESS.label("ended_at"))
    query = query.where(job.c.state == JobState.IN_PROGRESS, job.c.stage == JobStage.INFER, job.c.next_at.is_(None))
    return [OtherAnalysis(**row) for row in connection.execute(query.order_by(PROGRESS, job.c.id)).mappings()]
