"""Rows that belong to nothing: their series, job or object has no row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.key_ranges import KeyCondition, KeyRange, key_ranges
from node.ledger.tables import delivery, delivery_instance, job, original, result


@dataclass(frozen=True, kw_only=True)
class RowsWithoutOrigin:
    """Images that name a series, or answers that name an object, of which there is no row."""

    of: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class MissingOrigin:
    """A row whose origin has none."""

    what: str
    origin: str


def jobs_at_once(connection: sa.Connection, size: int) -> Iterator[KeyRange]:
    """All ids of jobs, ``size`` at a time, and those that rows name although no job has them."""
    return key_ranges(connection, job.c.id, size)


def results_without_job(connection: sa.Connection, of_jobs: KeyCondition) -> Iterator[MissingOrigin]:
    """Results whose job has no row, in the order of their jobs."""
    return _without_job(connection, of_jobs, result.c.sop_instance_uid, "result")


def deliveries_without_job(connection: sa.Connection, of_jobs: KeyCondition) -> Iterator[MissingOrigin]:
    """Deliveries whose job has no row, in the order of their jobs."""
    return _without_job(connection, of_jobs, delivery.c.destination, "delivery to")


def answers_without_object(connection: sa.Connection, of_jobs: KeyCondition) -> Iterator[RowsWithoutOrigin]:
    """Answers of destinations to objects that have no row, of a condition on ids of jobs, in their order."""
    of, key = delivery_instance, delivery_instance.c["job_id", "destination"]
    of_object = (
        sa.exists().where(table.c.job_id == of.c.job_id, table.c.sop_instance_uid == of.c.sop_instance_uid)
        for table in (result, original)
    )
    of_purged = sa.exists().where(job.c.id == of.c.job_id, job.c.results_purged_at.is_not(None))
    query = sa.select(*key, sa.func.count().label("rows")).where(
        of_jobs(of.c.job_id), *(~known for known in of_object), ~of_purged
    )
    for row in connection.execute(query.group_by(*key).order_by(*key)):
        yield RowsWithoutOrigin(of=f"answers of {row.destination} to results of job {row.job_id}", rows=row.rows)


def _without_job(
    connection: sa.Connection, of_jobs: KeyCondition, name: sa.Column[str], what: str
) -> Iterator[MissingOrigin]:
    job_id = name.table.c.job_id
    query = sa.select(name, job_id).where(of_jobs(job_id), ~sa.exists().where(job.c.id == job_id))
    for row in connection.execute(query.order_by(job_id, name)):
        yield MissingOrigin(what=f"{what} {row[0]}", origin=f"job {row[1]}")
