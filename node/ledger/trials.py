"""Trials: analyses of the same series by a champion and a candidate, of which one was kept in shadow."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.jobs import REJECTION
from node.ledger.prerequisites import WAITS
from node.ledger.states import ACTIVE, JobStage, JobState, ShadowCause
from node.ledger.tables import instance, job, job_fact, result, verdict
from node.ledger.verdict import SourceKind, Verdict


@dataclass(frozen=True, kw_only=True)
class TrialAnalysis:
    """One of the two analyses of a series; numbers are ``None`` when it ended without one."""

    job_id: str
    created_at: float
    """POSIX time of its job."""
    outcome: str
    in_shadow: bool
    version: str | None
    weights: str | None
    """SHA-256."""
    run_seconds: float | None
    host_mib: float | None
    device_mib: float | None


@dataclass(frozen=True, kw_only=True)
class TrialPair:
    """Both analyses of one generation of a series."""

    study_instance_uid: str
    scanner: str
    champion: TrialAnalysis
    candidate: TrialAnalysis

    @property
    def sent(self) -> TrialAnalysis:
        """The one whose results were sent."""
        return self.champion if self.candidate.in_shadow else self.candidate


@dataclass(frozen=True, kw_only=True)
class AddedLesion:
    """A lesion that a reader's segmentation shows and no result that was sent."""

    path: str
    """Of the segmentation, relative to ``[storage] folder``."""
    lesion: str
    """Its Tracking UID, or its number."""


@dataclass(frozen=True, kw_only=True)
class Untried:
    """Series that wait to be tried: no device was idle for long enough yet."""

    series: int = 0
    since: float | None = None
    """POSIX time of the first job."""


def untried(connection: sa.Connection, champion: str, candidate: str) -> Untried:
    """Series that one of both pipelines has not tried in shadow yet, without those on which it has failed until now."""
    query = sa.select(sa.func.count(), sa.func.min(job.c.created_at)).where(
        job.c.pipeline.in_((champion, candidate)),
        job.c.shadow == ShadowCause.TRIAL,
        job.c.state.in_(ACTIVE),
        job.c.stage.in_((JobStage.INFER, JobStage.ENCODE)),
        job.c.error.is_(None),
        ~WAITS,
    )
    series, since = connection.execute(query).one()
    return Untried(series=series, since=since)


def trial_pairs(connection: sa.Connection, champion: str, candidate: str, most: int) -> list[TrialPair]:
    """The latest pairs that have ended, at most ``most``, the latest first."""
    champion_job, other = job.alias("champion"), job.alias("candidate")
    same = [
        champion_job.c[name] == other.c[name] for name in ("study_instance_uid", "series_instance_uid", "generation")
    ]
    in_trial = sa.or_(champion_job.c.shadow == ShadowCause.TRIAL, other.c.shadow == ShadowCause.TRIAL)
    query = (
        sa.select(champion_job.c.id, other.c.id.label("candidate_id"))
        .join(other, sa.and_(*same))
        .where(champion_job.c.pipeline == champion, other.c.pipeline == candidate, in_trial)
        .where(champion_job.c.outcome.is_not(None), other.c.outcome.is_not(None))
        .where(champion_job.c.state != JobState.CANCELED, other.c.state == JobState.COMPLETED)
        .order_by(other.c.created_at.desc(), other.c.id)
        .limit(most)
    )
    ids = [(row.id, row.candidate_id) for row in connection.execute(query)]
    analyses = _analyses(connection, [job_id for pair in ids for job_id in pair])
    return [
        TrialPair(
            study_instance_uid=analyses[first][0],
            scanner=analyses[first][1] or analyses[second][1] or "",
            champion=analyses[first][2],
            candidate=analyses[second][2],
        )
        for first, second in ids
    ]


def _analyses(connection: sa.Connection, jobs: Collection[str]) -> dict[str, tuple[str, str | None, TrialAnalysis]]:
    """Study, scanner and analysis by job."""
    facts = ("version", "weights", "run_seconds", "host_mib", "device_mib", "scanner")
    query = (
        sa.select(
            *job.c["id", "study_instance_uid", "created_at", "outcome", "shadow"], *(job_fact.c[name] for name in facts)
        )
        .outerjoin(job_fact, job_fact.c.job_id == job.c.id)
        .where(job.c.id.in_(jobs))
    )
    return {
        row.id: (
            row.study_instance_uid,
            row.scanner,
            TrialAnalysis(
                job_id=row.id,
                created_at=row.created_at,
                outcome=row.outcome,
                in_shadow=row.shadow is not None,
                version=row.version,
                weights=row.weights,
                run_seconds=row.run_seconds,
                host_mib=row.host_mib,
                device_mib=row.device_mib,
            ),
        )
        for row in connection.execute(query)
    }


def segmentation_path(connection: sa.Connection, job_id: str, classes: Collection[str]) -> str | None:
    """Path of the segmentation of a job, the kind that is sent by default first; ``None``: it made none."""
    query = (
        sa.select(result.c.path)
        .where(
            result.c.job_id == job_id,
            result.c.sop_class_uid.in_(classes),
            result.c.quarantine.is_(None),
            sa.func.coalesce(result.c.kind, "").not_like(f"{REJECTION}%"),
        )
        .order_by(result.c.kind.desc())
    )
    return connection.scalar(query.limit(1))


def added_lesions(connection: sa.Connection, job_id: str) -> list[AddedLesion]:
    """What readers outlined that an analysis lacks, as far as the files are here."""
    query = (
        sa.select(instance.c.path, verdict.c.lesion)
        .join(instance, instance.c.sop_instance_uid == verdict.c.source)
        .where(
            verdict.c.job_id == job_id,
            verdict.c.verdict == Verdict.ADDED,
            verdict.c.kind == SourceKind.SEGMENTATION,
            verdict.c.superseded_at.is_(None),
        )
        .order_by(verdict.c.lesion)
    )
    return [AddedLesion(path=row.path, lesion=row.lesion) for row in connection.execute(query)]
