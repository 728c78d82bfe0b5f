"""Queries for readers' objects: of which studies an archive is due to be asked, and what it was asked to send."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.states import JobState
from node.ledger.tables import job, reader_query, result

_STUDY = ""
_SLOWER = 8.0
"""A study is asked about again when this part of its age has passed: readers answer soon or hardly ever."""


def due_studies(connection: sa.Connection, *, since: float, interval_seconds: float) -> list[str]:
    """Studies whose results were sent since then and of which the archive is due to be asked, the latest first.

    Each is asked about after ``interval_seconds``, and more rarely as it grows older.
    """
    at = ledger_clock(connection)
    sent_at = sa.func.max(job.c.updated_at).label("sent_at")
    has_results = sa.exists().where(result.c.job_id == job.c.id)
    sent = (
        sa.select(job.c.study_instance_uid, sent_at)
        .where(job.c.state == JobState.COMPLETED, job.c.updated_at >= since, job.c.shadow.is_(None), has_results)
        .group_by(job.c.study_instance_uid)
        .subquery()
    )
    asked = sa.and_(
        reader_query.c.study_instance_uid == sent.c.study_instance_uid, reader_query.c.series_instance_uid == _STUDY
    )
    age, since_asked = at - sent.c.sent_at, at - sa.func.coalesce(reader_query.c.asked_at, 0.0)
    query = (
        sa.select(sent.c.study_instance_uid)
        .outerjoin(reader_query, asked)
        .where(age >= interval_seconds, since_asked >= interval_seconds, since_asked >= age / _SLOWER)
        .order_by(sent.c.sent_at.desc())
    )
    return list(connection.scalars(query))


def record_query(connection: sa.Connection, study: str, series: str = _STUDY) -> None:
    """Record that the archive is asked about a study now, or to send a series of it."""
    key = {"study_instance_uid": study, "series_instance_uid": series}
    at = ledger_clock(connection)
    if not insert_new(connection, reader_query, [key | {"asked_at": at}]):
        same = [reader_query.c[name] == value for name, value in key.items()]
        connection.execute(sa.update(reader_query).where(*same).values(asked_at=at))


def is_asked_for(connection: sa.Connection, study: str, series: str) -> bool:
    """Whether the archive was asked to send a series on behalf of verdicts."""
    key = reader_query.c.study_instance_uid == study, reader_query.c.series_instance_uid == series
    return bool(series) and connection.scalar(sa.select(sa.exists().where(*key))) is True
