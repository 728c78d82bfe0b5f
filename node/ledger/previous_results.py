"""Results that the pipeline of a job has made of its series before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.jobs import REJECTION, Job, retracted_jobs
from node.ledger.tables import job, result


@dataclass(frozen=True, kw_only=True)
class PreviousResult:
    """The results of one job on a series."""

    analysis: str | None
    """Key of the analysis; ``None``: not known, or what it made was retracted."""
    version: int
    replaces: str
    """When the result was made whose place it took; empty when it took none's."""
    paths: Mapping[str, str]
    """By kind of object."""


def previous_results(connection: sa.Connection, of: Job) -> list[PreviousResult]:
    """What was made of the job's series by its pipeline before: by its own earlier run, then by earlier generations."""
    rows = connection.execute(
        sa.select(*result.c["job_id", "kind", "path", "analysis", "version", "replaces"])
        .join(job, job.c.id == result.c.job_id)
        .where(
            job.c.study_instance_uid == of.study_instance_uid,
            job.c.series_instance_uid == of.series_instance_uid,
            job.c.pipeline == of.pipeline,
            job.c.generation <= of.generation,
            sa.or_(job.c.id == of.id, job.c.shadow.is_(None)),  # no destination has what was kept in shadow
            result.c.quarantine.is_(None),
            result.c.kind.is_not(None),
            ~result.c.kind.startswith(REJECTION),
        )
        .order_by(job.c.generation.desc(), job.c.id, result.c.sop_instance_uid)
    ).all()
    by_job: dict[str, list[Any]] = {}
    for row in rows:
        by_job.setdefault(row.job_id, []).append(row)
    retracted = retracted_jobs(connection, by_job)  # what is rejected is not made again
    return [
        PreviousResult(
            analysis=None if job_id in retracted else of_job[0].analysis,
            version=of_job[0].version or 1,
            replaces=of_job[0].replaces or "",
            paths={row.kind: row.path for row in of_job},
        )
        for job_id, of_job in by_job.items()
    ]
