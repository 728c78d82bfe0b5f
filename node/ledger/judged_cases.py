"""Analyses with verdicts whose files are still here: what readers have verified, for tests and for training."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.jobs import get_job, source_paths
from node.ledger.tables import instance, job, job_fact, verdict
from node.ledger.trials import segmentation_path


@dataclass(frozen=True, kw_only=True)
class CaseVerdict:
    """A verdict that counts, and where it was read."""

    lesion: str
    """Tracking UID of ours; of an added lesion its name in the reader's object; "": the whole analysis."""
    kind: str
    verdict: str
    reader: str
    """Keyed hash; "": the object names nobody."""
    path: str | None
    """Of the reader's object, relative to the storage folder; ``None``: there is none, or it was purged."""


@dataclass(frozen=True, kw_only=True)
class JudgedCase:
    """An analysis that was sent and judged."""

    job_id: str
    study_instance_uid: str
    series_instance_uid: str
    outcome: str
    version: str
    scanner: str
    findings: int
    """How many the analysis reported."""
    at: float
    """When it was analysed."""
    images: tuple[str, ...]
    segmentation: str | None
    verdicts: tuple[CaseVerdict, ...]


def judged_cases(
    connection: sa.Connection, pipeline: str, outcomes: Collection[str], segmentations: Collection[str]
) -> list[JudgedCase]:
    """Of each series the latest judged analysis of a pipeline, the oldest first; ``segmentations``: SOP classes."""
    has_verdict = sa.exists().where(verdict.c.job_id == job.c.id, verdict.c.superseded_at.is_(None))
    query = (
        sa.select(
            *job.c["id", "study_instance_uid", "series_instance_uid", "outcome"],
            *(job_fact.c[name] for name in ("version", "scanner", "findings", "at")),
        )
        .join(job_fact, job_fact.c.job_id == job.c.id)
        .where(job.c.pipeline == pipeline, job.c.outcome.in_(outcomes))
        .where(job.c.shadow.is_(None), has_verdict)
        .order_by(job_fact.c.at, job.c.id)
    )
    latest = {(row.study_instance_uid, row.series_instance_uid): row for row in connection.execute(query)}
    return [
        JudgedCase(
            job_id=row.id,
            study_instance_uid=row.study_instance_uid,
            series_instance_uid=row.series_instance_uid,
            outcome=row.outcome,
            version=row.version or "",
            scanner=row.scanner,
            findings=row.findings,
            at=row.at,
            images=tuple(source_paths(connection, get_job(connection, row.id))),
            segmentation=segmentation_path(connection, row.id, segmentations),
            verdicts=_verdicts(connection, row.id),
        )
        for row in latest.values()
    ]


def _verdicts(connection: sa.Connection, job_id: str) -> tuple[CaseVerdict, ...]:
    query = (
        sa.select(*(verdict.c[name] for name in ("lesion", "kind", "verdict", "reader")), instance.c.path)
        .outerjoin(instance, instance.c.sop_instance_uid == verdict.c.source)
        .where(verdict.c.job_id == job_id, verdict.c.superseded_at.is_(None))
        .order_by(verdict.c.lesion)
    )
    return tuple(CaseVerdict(**row) for row in connection.execute(query).mappings())
