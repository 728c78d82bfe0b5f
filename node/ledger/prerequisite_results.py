"""Results that a job needs: what other pipelines have made of its series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.jobs import REJECTION, Job, get_job, retracted_jobs
from node.ledger.prerequisites import needed_job
from node.ledger.tables import result


@dataclass(frozen=True, kw_only=True)
class PrerequisiteResult:
    """What the job of one pipeline has made."""

    pipeline: str
    job: Job | None
    """``None``: there is none."""
    paths: Mapping[str, str]
    """Of its objects that may be sent, by kind; empty when they were retracted or purged."""


def prerequisite_results(connection: sa.Connection, of: Job) -> list[PrerequisiteResult]:
    """Results of every pipeline that ran before a job, the one that it names first."""
    needed: list[PrerequisiteResult] = []
    while of.after:
        job_id = needed_job(connection, of.id)
        if job_id is None:
            needed.append(PrerequisiteResult(pipeline=of.after, job=None, paths={}))
            break
        of = get_job(connection, job_id)
        needed.append(PrerequisiteResult(pipeline=of.pipeline, job=of, paths=_paths(connection, of)))
    return needed


def _paths(connection: sa.Connection, of: Job) -> dict[str, str]:
    if of.results_purged_at is not None or retracted_jobs(connection, [of.id]):
        return {}
    rows = connection.execute(
        sa.select(result.c.kind, result.c.path)
        .where(
            result.c.job_id == of.id,
            result.c.quarantine.is_(None),
            result.c.kind.is_not(None),
            ~result.c.kind.startswith(REJECTION),
        )
        .order_by(result.c.sop_instance_uid)
    )
    return {row.kind: row.path for row in rows}
