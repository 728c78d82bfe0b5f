"""Quotas of pipelines: which results go when those of a pipeline occupy more than its ``quota_gib``. Pure.

A quota goes before all times of ``node.operate.retention_rules``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from node.ledger.planned_purges import StoredResults, StoredStudy
from node.operate.retention_rules import DAY_SECONDS, PlannedPurge, PurgeKind

QUOTA_SECONDS = DAY_SECONDS
"""No quota purges results before: until then late images may still replace them, which needs their files."""


def over_quota(quotas: Mapping[str, float], studies: Iterable[StoredStudy], at: float) -> list[PlannedPurge]:
    """Return the results that quotas (bytes by pipeline) purge at a time.

    Those that were confirmed first go first, then those without proof.
    """
    sizes = dict.fromkeys(quotas, 0)
    candidates: dict[str, list[tuple[bool, float, str, PlannedPurge]]] = {}
    for study in studies:
        for result in study.results:
            if result.pipeline not in sizes:
                continue
            sizes[result.pipeline] += result.size
            if yields_to_quota(study, result, at):
                purge = PlannedPurge(
                    study_instance_uid=study.study_instance_uid,
                    kind=PurgeKind.RESULTS,
                    at=at,
                    size=result.size,
                    why=quota_key(result.pipeline),
                    series_instance_uid=result.series_instance_uid,
                    job_id=result.job_id,
                )
                order = (not result.is_confirmed, result.delivered_at or 0.0, result.job_id, purge)
                candidates.setdefault(result.pipeline, []).append(order)
    purged = []
    for pipeline, of in candidates.items():
        excess = sizes[pipeline] - quotas[pipeline]
        for *_, purge in sorted(of, key=lambda candidate: candidate[:3]):
            if excess <= 0:
                break
            purged.append(purge)
            excess -= purge.size
    return purged


def quota_key(pipeline: str) -> str:
    """Return the key of the quota of a pipeline."""
    return f"[pipelines.{pipeline}] quota_gib"


def yields_to_quota(study: StoredStudy, results: StoredResults, at: float) -> bool:
    """Whether a quota may purge results: every destination has them for a day, and nothing of the study is pending."""
    return (
        study.is_settled
        and results.objects > 0
        and not results.is_quarantined
        and results.delivered_at is not None
        and results.delivered_at < at - QUOTA_SECONDS
    )
