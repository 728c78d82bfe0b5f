"""What is due and in no queue, and what is delivered: searched for all jobs at once, however many are open."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from node.ledger.clock_steps import passed
from node.ledger.jobs import DELIVERY_OPEN, IN_TRIAL, PROGRESS, Attempt, Job, job_of_row
from node.ledger.prerequisites import WAITS
from node.ledger.states import ACTIVE, JobStage
from node.ledger.tables import delivery, job, stopped

MOST_DUE = 1000
"""Attempts of one search; the next search finds the others."""


def due_attempts(
    connection: sa.Connection,
    before: float,
    queued: sa.Select[tuple[str]],
    stages: Collection[JobStage] = tuple(JobStage),
) -> list[Attempt]:
    """Attempts that are due, or wait for their time, of jobs untouched since ``before`` and in no queue.

    ``queued`` selects the key of every queued attempt, with a slash at its end. Attempts of a pipeline that an operator
    has stopped are left out, and those of jobs that wait for the result of another one. At most ``MOST_DUE`` of
    deliveries and of other stages each.
    """
    rows = [
        row for query in due_queries(before, queued, stages) for row in connection.execute(query.limit(MOST_DUE)).all()
    ]
    return [
        Attempt(
            job_id=row.id,
            run=row.run,
            stage=JobStage(row.stage),
            subject=row.subject,
            number=row.number,
            pipeline=row.pipeline,
            priority=row.priority,
        )
        for row in rows
    ]


def due_queries(
    before: float, queued: sa.Select[tuple[str]], stages: Collection[JobStage]
) -> tuple[sa.Select[tuple[object, ...]], sa.Select[tuple[object, ...]]]:
    """The searches behind ``due_attempts``: of deliveries, and of the stages before."""
    # A join with all keys at once. NOT IN or NOT EXISTS would compare every job with every key, on PostgreSQL beyond
    # work_mem and on SQLite always.
    known = queued.distinct().subquery("queued")
    (key,) = known.c
    held = sa.and_(job.c.stage == JobStage.INFER, job.c.pipeline.in_(sa.select(stopped.c.pipeline)))
    wanted = sa.and_(job.c.state.in_(ACTIVE), passed(job.c.updated_at, before), job.c.stage.in_(stages), key.is_(None))
    columns = (job.c.id, job.c.run, job.c.stage, job.c.pipeline, job.c.priority)
    of_job = job.c.id + "/" + sa.cast(job.c.run, sa.Text) + "/" + job.c.stage + "/"
    deliveries = (
        sa.select(*columns, delivery.c.destination.label("subject"), sa.literal(0).label("number"))
        .select_from(job)
        .join(delivery, delivery.c.job_id == job.c.id)
        .outerjoin(known, key == of_job + delivery.c.destination + "/")
        .where(wanted, job.c.stage == JobStage.DELIVER, DELIVERY_OPEN)
    )
    others = (
        sa.select(*columns, sa.literal("").label("subject"), job.c.attempt.label("number"))
        .select_from(job)
        .outerjoin(known, key == of_job)
        .where(wanted, job.c.stage != JobStage.DELIVER, ~held, ~WAITS)
    )
    return deliveries, others


def stuck_jobs(connection: sa.Connection, before: float) -> list[Job]:
    """Jobs that have not moved on since ``before`` and that nothing holds up.

    A delivery that is still open has an alarm of its own; a pipeline that an operator stopped keeps its jobs. What is
    tried in shadow may wait for ever, and a job that needs the result of another one as long as that takes.
    """
    held = sa.and_(job.c.stage == JobStage.INFER, job.c.pipeline.in_(sa.select(stopped.c.pipeline)))
    is_open = sa.exists().where(delivery.c.job_id == job.c.id, DELIVERY_OPEN)
    delivering = sa.and_(job.c.stage == JobStage.DELIVER, is_open)
    where = (job.c.state.in_(ACTIVE), before > PROGRESS, ~held, ~delivering, ~IN_TRIAL, ~WAITS)
    return [job_of_row(row) for row in connection.execute(sa.select(job).where(*where).order_by(PROGRESS, job.c.id))]


def delivered_jobs(connection: sa.Connection) -> list[str]:
    """Jobs in delivery without a pending object, at most ``MOST_DUE``."""
    return list(connection.scalars(sa.select(job.c.id).where(_DELIVERED).limit(MOST_DUE)))


def is_delivered(connection: sa.Connection, job_id: str) -> bool:
    """Whether a job is in delivery and has no pending object."""
    return connection.scalar(sa.select(job.c.id).where(_DELIVERED, job.c.id == job_id)) is not None


_DELIVERED = sa.and_(
    job.c.state.in_(ACTIVE),
    job.c.stage == JobStage.DELIVER,
    ~sa.exists().where(delivery.c.job_id == job.c.id, DELIVERY_OPEN),
)
