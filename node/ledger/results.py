"""Results: the objects that jobs have made; their transitions are in ``node.ledger.transitions``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.engine import among
from node.ledger.jobs import REJECTION
from node.ledger.tables import instance, job, result


class StoredResult(NamedTuple):
    """One object that a job has made."""

    path: str
    """Relative to ``[storage] folder``."""
    kind: str | None
    """``None``: made before kinds were kept."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """An encoded object and its file."""

    sop_instance_uid: str
    job_id: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    description: str
    path: str
    """Relative to ``[storage] folder``."""
    digest: str
    size: int
    quarantine: str | None
    """Why the gate holds it back."""
    created_at: float
    kind: str | None
    """As ``node.results`` names it."""
    analysis: str | None
    """Key of the analysis."""
    version: int | None
    replaces: str | None
    """When the result was made whose place it takes."""


_COLUMNS = tuple(Result.__dataclass_fields__)


def is_of_result(connection: sa.Connection, series_uid: str) -> bool:
    """Whether a series is a result of this node."""
    return (
        connection.scalar(sa.select(result.c.job_id).where(result.c.series_instance_uid == series_uid).limit(1))
        is not None
    )


def result_series(connection: sa.Connection) -> set[str]:
    """Series Instance UIDs of all results."""
    return set(connection.scalars(sa.select(result.c.series_instance_uid).distinct()))


def unreceived_results(connection: sa.Connection, series_uid: str) -> int:
    """How many objects of a series are results that the gate let pass and that nobody has sent to this node."""
    is_received = sa.exists().where(
        instance.c.study_instance_uid == job.c.study_instance_uid,
        instance.c.series_instance_uid == result.c.series_instance_uid,
        instance.c.sop_instance_uid == result.c.sop_instance_uid,
    )
    query = (
        sa.select(sa.func.count())
        .select_from(result.join(job, job.c.id == result.c.job_id))
        .where(result.c.series_instance_uid == series_uid, result.c.quarantine.is_(None), ~is_received)
    )
    return int(connection.scalar(query) or 0)


def sendable_results(connection: sa.Connection, job_id: str) -> list[StoredResult]:
    """What a job has made and the gate let pass, without notes on what the job has replaced."""
    note = sa.func.coalesce(result.c.kind, "").startswith(f"{REJECTION} ")
    query = sa.select(result.c.path, result.c.kind).where(
        result.c.job_id == job_id, result.c.quarantine.is_(None), ~note
    )
    return [StoredResult(*row) for row in connection.execute(query)]


def results_of_job(connection: sa.Connection, job_id: str) -> list[Result]:
    """The objects of a job, in the order in which they were made."""
    query = sa.select(*result.c[_COLUMNS]).where(result.c.job_id == job_id)
    rows = connection.execute(query.order_by(result.c.created_at))
    return [Result(**row) for row in rows.mappings()]


def results_of_study(connection: sa.Connection, study: str) -> list[Result]:
    """The objects of all jobs of a study, in the order in which they were made."""
    query = sa.select(*result.c[_COLUMNS]).join(job, job.c.id == result.c.job_id)
    rows = connection.execute(query.where(job.c.study_instance_uid == study).order_by(result.c.created_at))
    return [Result(**row) for row in rows.mappings()]


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A result that the gate holds back."""

    study_instance_uid: str
    description: str
    reason: str


def quarantined_results(connection: sa.Connection) -> list[Quarantined]:
    """All results that the gate holds back, by study."""
    query = (
        sa.select(job.c.study_instance_uid, result.c.description, result.c.quarantine)
        .join(job, result.c.job_id == job.c.id)
        .where(result.c.quarantine.is_not(None))
        .order_by(job.c.study_instance_uid, result.c.created_at)
    )
    rows = connection.execute(query)
    return [Quarantined(study_instance_uid=uid, description=of, reason=why) for uid, of, why in rows]


def quarantined_by_study(connection: sa.Connection, studies: Collection[str]) -> dict[str, int]:
    """How many results of each of ``studies`` the gate holds back; without those of which it holds none."""
    query = (
        sa.select(job.c.study_instance_uid, sa.func.count())
        .join(result, result.c.job_id == job.c.id)
        .where(among(connection, job.c.study_instance_uid, studies), result.c.quarantine.is_not(None))
        .group_by(job.c.study_instance_uid)
    )
    return {str(study): number for study, number in connection.execute(query)}
