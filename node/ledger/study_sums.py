"""What is stored of each study in sums alone: when its last event was, how large it is, and what it waits for.

One statement groups all studies, for a plan that has no parts of studies; ``node.ledger.planned_purges`` reads them
whole.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.jobs import DELIVERY_OPEN
from node.ledger.states import ACTIVE, DecisionOutcome, JobState, SeriesState
from node.ledger.tables import LATEST_DECISION, conflict, decision, delivery, excluded, job, result, series
from node.ledger.workitem_subscriptions import locked_studies


class StudySums(NamedTuple):
    """One study; names as in ``StoredStudy``."""

    study_instance_uid: str
    last_at: float
    size: int
    receiving: int
    held: int
    active: int
    pending: tuple[str, ...]
    is_locked: bool = False


def all_study_sums(connection: sa.Connection) -> list[StudySums]:
    """Every study, the one that rests for longest first."""
    pending: dict[str, list[str]] = {}
    for study, destination in connection.execute(_PENDING):
        pending.setdefault(study, []).append(destination)
    sums = {
        row[0]: StudySums(
            row[0],
            row.last_at if row.updated_at is None else max(row.last_at, row.updated_at),
            int(row.size + (row.result_size or 0)),
            row.receiving,
            row.held,
            row.active or 0,
            tuple(sorted(pending.get(row[0], ()))),
        )
        for row in connection.execute(_SUMS)
    }
    for table in (conflict, excluded):
        size, last = sa.func.sum(table.c.size), sa.func.max(table.c.received_at)
        query = sa.select(table.c.study_instance_uid, size, last).group_by(table.c.study_instance_uid)
        for study, others, at in connection.execute(query):
            known = sums.get(study) or _without_series(connection, study, at, tuple(sorted(pending.get(study, ()))))
            sums[study] = known._replace(size=known.size + int(others), last_at=max(known.last_at, at))
    for study in locked_studies(connection) & sums.keys():
        sums[study] = sums[study]._replace(is_locked=True)
    return sorted(sums.values(), key=lambda total: (total.last_at, total.study_instance_uid))


def _without_series(connection: sa.Connection, study: str, at: float, pending: tuple[str, ...]) -> StudySums:
    """A study of which everything that came was kept aside; it may have jobs all the same."""
    (row,) = connection.execute(sa.select(*_OF_JOBS).where(job.c.study_instance_uid == study))
    size = connection.scalar(
        sa.select(sa.func.coalesce(sa.func.sum(result.c.size), 0))
        .join(job, job.c.id == result.c.job_id)
        .where(job.c.study_instance_uid == study)
    )
    last = at if row.updated_at is None else max(at, row.updated_at)
    return StudySums(study, last, int(size or 0), 0, 0, row.active or 0, pending)


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


_OF_JOBS = (sa.func.max(job.c.updated_at).label("updated_at"), _count(job.c.state.in_(ACTIVE)).label("active"))
_JOBS = sa.select(job.c.study_instance_uid, *_OF_JOBS).group_by(job.c.study_instance_uid).subquery()
_RESULTS = (
    sa.select(job.c.study_instance_uid, sa.func.sum(result.c.size).label("result_size"))
    .join(result, result.c.job_id == job.c.id)
    .group_by(job.c.study_instance_uid)
    .subquery()
)
_SERIES = (
    sa.select(
        series.c.study_instance_uid,
        sa.func.max(series.c.last_at).label("last_at"),
        sa.func.sum(series.c.size).label("size"),
        _count(series.c.state != SeriesState.COMPLETE).label("receiving"),
        _count(sa.func.coalesce(decision.c.outcome, "") == DecisionOutcome.HELD).label("held"),
    )
    .outerjoin(decision, LATEST_DECISION)
    .group_by(series.c.study_instance_uid)
    .subquery()
)
_SUMS = (
    sa.select(*_SERIES.c, _JOBS.c.updated_at, _JOBS.c.active, _RESULTS.c.result_size)
    .outerjoin(_JOBS, _JOBS.c.study_instance_uid == _SERIES.c.study_instance_uid)
    .outerjoin(_RESULTS, _RESULTS.c.study_instance_uid == _SERIES.c.study_instance_uid)
)
_PENDING = (
    sa.select(job.c.study_instance_uid, delivery.c.destination)
    .join(job, job.c.id == delivery.c.job_id)
    .where(DELIVERY_OPEN, job.c.state != JobState.CANCELED)
    .distinct()
)
