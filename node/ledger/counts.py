"""How many there are: jobs, deliveries, files, series, processes, counted by the database."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from node.ledger.jobs import PROGRESS
from node.ledger.progress import Progress, progress_of_job
from node.ledger.states import ClaimState, ConflictKind, DeliveryState, SeriesState, WorkitemState, WorklistState
from node.ledger.tables import (
    association,
    claimed_workitem,
    commitment,
    conflict,
    delivery,
    instance,
    job,
    procedure_step,
    result,
    series,
    workitem,
    worklist_query,
)


@dataclass(frozen=True, kw_only=True)
class JobCount:
    """Jobs that are alike."""

    pipeline: str
    state: str
    stage: str
    outcome: str | None
    retries_later: bool
    """Their next attempt has a time of its own."""
    jobs: int
    recent: int
    """Of them, created after the time that was asked about."""
    oldest_progress: float
    """When the one that has not moved for longest last moved on, in seconds since 1970 UTC."""

    def progress(self) -> Progress:
        """How far they are, without what became of their deliveries."""
        return progress_of_job(
            self.state, self.stage, self.outcome, retries_later=self.retries_later, deliveries=(DeliveryState.STORED,)
        )


def job_counts(connection: sa.Connection, recent_after: float = 0.0) -> list[JobCount]:
    """Every job, counted by pipeline, state, stage and outcome."""
    retries_later = job.c.next_at.is_not(None)
    alike = (job.c.pipeline, job.c.state, job.c.stage, job.c.outcome)
    query = sa.select(
        *alike,
        retries_later.label("retries_later"),
        sa.func.count().label("jobs"),
        sa.func.sum(sa.case((job.c.created_at > recent_after, 1), else_=0)).label("recent"),
        sa.func.min(PROGRESS).label("oldest_progress"),
    ).group_by(*alike, retries_later)
    return [
        JobCount(**{**row, "retries_later": bool(row["retries_later"]), "recent": int(row["recent"])})
        for row in connection.execute(query.order_by(*alike)).mappings()
    ]


@dataclass(frozen=True, kw_only=True)
class DeliveryCount:
    """Deliveries to one destination in one state."""

    destination: str
    state: str
    deliveries: int
    oldest: float
    """When the first of them was made, in seconds since 1970 UTC."""
    latest: float
    """When one of them changed last."""
    error: str | None
    """Of one of them."""


def delivery_counts(connection: sa.Connection) -> list[DeliveryCount]:
    """Every delivery, counted by destination and state."""
    alike = (delivery.c.destination, delivery.c.state)
    query = sa.select(
        *alike,
        sa.func.count().label("deliveries"),
        sa.func.min(delivery.c.created_at).label("oldest"),
        sa.func.max(delivery.c.updated_at).label("latest"),
        sa.func.max(delivery.c.error).label("error"),
    )
    return [DeliveryCount(**row) for row in connection.execute(query.group_by(*alike).order_by(*alike)).mappings()]


@dataclass(frozen=True, kw_only=True)
class FileCount:
    """Files and how large they are together."""

    files: int
    size: int
    """Bytes."""


def received_files(connection: sa.Connection) -> FileCount:
    """Images that are kept, as their series count them: a series has hundreds."""
    files, size = connection.execute(sa.select(_sum(series.c.instances), _sum(series.c.size))).one()
    return FileCount(files=int(files), size=int(size))


def files_received_since(connection: sa.Connection, after: float) -> FileCount:
    """Images received after a time (seconds since 1970 UTC); only series that got one are looked at."""
    states = series.c.state.in_(tuple(SeriesState))  # the index begins with it
    of_series = (instance.c[name] == series.c[name] for name in ("study_instance_uid", "series_instance_uid"))
    query = sa.select(sa.func.count(), _sum(instance.c.size)).join_from(series, instance, sa.and_(*of_series))
    row = connection.execute(query.where(states, series.c.last_at > after, instance.c.received_at > after)).one()
    return FileCount(files=row[0], size=int(row[1]))


def result_files(connection: sa.Connection) -> FileCount:
    """Results that are kept."""
    files, size = connection.execute(sa.select(sa.func.count(), _sum(result.c.size))).one()
    return FileCount(files=files, size=int(size))


def conflict_count(connection: sa.Connection, kind: ConflictKind | None = None) -> int:
    """Images that were received again with another content, of one kind or of all."""
    return _count(connection, conflict, sa.true() if kind is None else conflict.c.kind == kind)


def quarantined_count(connection: sa.Connection) -> int:
    """Results that the gate holds back."""
    return _count(connection, result, result.c.quarantine.is_not(None))


def open_association_count(connection: sa.Connection) -> int:
    """Associations that have brought images and are open."""
    return _count(connection, association, association.c.closed_at.is_(None))


def series_by_state(connection: sa.Connection) -> dict[str, int]:
    """State -> number of series."""
    return _by(connection, series.c.state)


def worklist_queries_by_state(connection: sa.Connection) -> dict[str, int]:
    """How many queries of studies that are here are in each state."""
    return _in_every(connection, worklist_query.c.state, WorklistState)


def requested_workitems_by_state(connection: sa.Connection) -> dict[str, int]:
    """How many workitems that other systems have requested are in each state."""
    return _in_every(connection, workitem.c.state, WorkitemState)


def claimed_workitems_by_state(connection: sa.Connection) -> dict[str, int]:
    """How many workitems of another system are in each state."""
    return _in_every(connection, claimed_workitem.c.state, ClaimState)


def jobs_by_state(connection: sa.Connection) -> dict[str, int]:
    """State -> number of jobs."""
    return _by(connection, job.c.state)


def jobs_by_outcome(connection: sa.Connection) -> dict[str, int]:
    """Outcome -> number of jobs that have one."""
    return _by(connection, job.c.outcome, job.c.outcome.is_not(None))


def deliveries_by_state(connection: sa.Connection) -> dict[str, int]:
    """State -> number of deliveries."""
    return _by(connection, delivery.c.state)


def commitments_by_state(connection: sa.Connection) -> dict[str, int]:
    """State -> number of Storage Commitment requests that others made."""
    return _by(connection, commitment.c.state)


def procedure_steps_by_state(connection: sa.Connection) -> dict[str, int]:
    """State -> number of procedure steps."""
    return _by(connection, procedure_step.c.state)


def first_and_last_image(connection: sa.Connection) -> tuple[float | None, float | None]:
    """When the study that rests for longest got its last image, and when any image came last; ``None``: no image."""
    row = connection.execute(sa.select(sa.func.min(series.c.last_at), sa.func.max(series.c.last_at))).one()
    return row[0], row[1]


def _sum(column: sa.Column[int]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(column), 0)


def _count(connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0


def _by(connection: sa.Connection, column: sa.Column[str], *where: sa.ColumnElement[bool]) -> dict[str, int]:
    query = sa.select(column, sa.func.count()).where(*where).group_by(column)
    return {str(value): number for value, number in connection.execute(query)}


def _in_every(connection: sa.Connection, column: sa.Column[str], states: type[StrEnum]) -> dict[str, int]:
    """As ``_by``, with 0 for each of ``states`` in which there is none."""
    counts = _by(connection, column)
    return {state.value: counts.get(state.value, 0) for state in states}
