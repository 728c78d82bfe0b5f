"""What the stages have before them: attempts that are due or running, and how long such attempts took."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

import sqlalchemy as sa

from node.ledger.events import EventKind
from node.ledger.operator_switches import stopped_pipelines
from node.ledger.states import ACTIVE, DeliveryState, JobStage
from node.ledger.tables import delivery, event, job, job_fact

_LATEST = 50
"""Analyses of a pipeline whose attempts are looked at: a median needs no more."""


def due_attempts(connection: sa.Connection, at: float) -> dict[tuple[str, str], int]:
    """Stage and pipeline -> attempts that are running or due at ``at`` (seconds since 1970 UTC).

    In deliver each destination of a job counts. A job of a stopped pipeline is not due before it is started, and an
    attempt that failed not before its delay is over: more processes would not begin them earlier.
    """
    count = sa.func.count()
    analyses = (
        sa.select(job.c.stage, job.c.pipeline, count)
        .where(job.c.state.in_(ACTIVE), job.c.stage != JobStage.DELIVER)
        .where(sa.or_(job.c.next_at.is_(None), job.c.next_at <= at))
        .group_by(job.c.stage, job.c.pipeline)
    )
    deliveries = (
        sa.select(sa.literal(str(JobStage.DELIVER)), job.c.pipeline, count)
        .join_from(delivery, job, job.c.id == delivery.c.job_id)
        .where(
            delivery.c.state.in_((DeliveryState.SCHEDULED, DeliveryState.IN_PROGRESS)), delivery.c.ended_at.is_(None)
        )
        .where(sa.or_(delivery.c.next_at.is_(None), delivery.c.next_at <= at))
        .group_by(job.c.pipeline)
    )
    stopped = stopped_pipelines(connection)
    return {
        (stage, pipeline): number
        for query in (analyses, deliveries)
        for stage, pipeline, number in connection.execute(query)
        if stage != JobStage.INFER or pipeline not in stopped
    }


def attempt_seconds(connection: sa.Connection, pipelines: Iterable[str]) -> dict[tuple[str, str], float]:
    """Stage and pipeline -> median seconds of the attempts of its latest 50 analyses, where there are any."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for pipeline in pipelines:
        latest = (
            sa.select(job_fact.c.job_id)
            .where(job_fact.c.pipeline == pipeline)
            .order_by(job_fact.c.at.desc())
            .limit(_LATEST)
            .subquery()
        )
        # Events are found by their study; they are deleted with it, while the facts stay.
        of_job = sa.and_(event.c.study_instance_uid == job.c.study_instance_uid, event.c.job_id == job.c.id)
        query = (
            sa.select(event.c.stage, event.c.seconds)
            .join_from(latest, job, job.c.id == latest.c.job_id)
            .join(event, of_job)
            .where(event.c.kind == EventKind.ATTEMPT_FINISHED, event.c.seconds.is_not(None))
        )
        for row in connection.execute(query):
            seconds.setdefault((row.stage, pipeline), []).append(row.seconds)
    return {key: median(values) for key, values in seconds.items()}
