"""Prerequisites: the job on the same series whose result another job needs, and for which it waits.

A job names the pipeline in ``job.after``. It is not due before that job is past encode, or has ended without a result.
"""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.states import ACTIVE, JobStage
from node.ledger.tables import job

_needed = job.alias("needed")
_OF_SAME_SERIES = sa.and_(
    _needed.c.study_instance_uid == job.c.study_instance_uid,
    _needed.c.series_instance_uid == job.c.series_instance_uid,
    _needed.c.generation == job.c.generation,
)
WAITS = sa.and_(
    job.c.after.is_not(None),
    job.c.stage == JobStage.INFER,
    sa.exists().where(
        _OF_SAME_SERIES,
        _needed.c.pipeline == job.c.after,
        _needed.c.state.in_(ACTIVE),
        _needed.c.stage != JobStage.DELIVER,
    ),
)
"""A job waits for the result of another one."""


def waits(connection: sa.Connection, job_id: str) -> bool:
    """Whether a job waits for the result of another one."""
    return connection.scalar(sa.select(job.c.id).where(job.c.id == job_id, WAITS)) is not None


def dependent_jobs(connection: sa.Connection, job_id: str) -> list[str]:
    """Ids of the jobs that need the result of a job."""
    query = (
        sa.select(job.c.id)
        .join(_needed, sa.and_(_OF_SAME_SERIES, _needed.c.pipeline == job.c.after))
        .where(_needed.c.id == job_id)
    )
    return list(connection.scalars(query.order_by(job.c.id)))


def needed_job(connection: sa.Connection, job_id: str) -> str | None:
    """Id of the job whose result a job needs; ``None``: it needs none, or there is no such job."""
    query = sa.select(_needed.c.id).join(job, sa.and_(_OF_SAME_SERIES, _needed.c.pipeline == job.c.after))
    return connection.scalar(query.where(job.c.id == job_id))
