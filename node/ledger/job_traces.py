"""Ended jobs with their series and events, for who makes traces of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.jobs import Job, job_of_row
from node.ledger.states import ACTIVE
from node.ledger.study_history import Event, SeriesRecord, read_records
from node.ledger.tables import event, job, series


@dataclass(frozen=True, kw_only=True)
class JobTrace:
    """A job, its series and its events in their order."""

    job: Job
    series: SeriesRecord
    events: tuple[Event, ...]


def untraced_jobs(connection: sa.Connection, limit: int) -> list[JobTrace]:
    """Jobs that have ended, or ended again, since they were marked; the one that ended first comes first."""
    ended = sa.and_(job.c.state.not_in(ACTIVE), sa.or_(job.c.traced_at.is_(None), job.c.traced_at < job.c.updated_at))
    rows = connection.execute(sa.select(job).where(ended).order_by(job.c.updated_at).limit(limit)).all()
    return [_trace(connection, job_of_row(row)) for row in rows]


def mark_traced(connection: sa.Connection, job_ids: Collection[str], at: float) -> None:
    """Keep that traces of these jobs were taken."""
    connection.execute(sa.update(job).where(job.c.id.in_(job_ids)).values(traced_at=at))


def _trace(connection: sa.Connection, of: Job) -> JobTrace:
    this = sa.and_(
        series.c.study_instance_uid == of.study_instance_uid, series.c.series_instance_uid == of.series_instance_uid
    )
    (record,) = read_records(connection, SeriesRecord, series, this, "first_at")
    events = read_records(connection, Event, event, event.c.job_id == of.id, "id")
    return JobTrace(job=of, series=record, events=events)
