"""Status of the node: counts, latest studies, pending work and failures, from the ledger alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.ledger.circuits import circuits
from node.ledger.corrections import half_corrected, outdated_deliveries
from node.ledger.counts import (
    commitments_by_state,
    conflict_count,
    deliveries_by_state,
    image_count,
    jobs_by_outcome,
    jobs_by_state,
    procedure_steps_by_state,
    processes_by_role,
    quarantined_count,
    series_by_state,
)
from node.ledger.engine import now, snapshot
from node.ledger.held_series import held
from node.ledger.pending_deliveries import overdue_deliveries
from node.ledger.progress import StudyProgress
from node.ledger.states import ConflictKind
from node.ledger.study_progress import latest_studies, progress_of
from node.spool.free_space import space_of

ALIVE_SECONDS = 30.0


def status(engine: sa.Engine, folder: Path, studies: int = 20) -> dict[str, Any]:
    """Counts by state, the latest ``studies``, processes that beat, and free disk space in GiB."""
    with snapshot(engine) as connection:
        latest = progress_of(connection, latest_studies(connection, studies))
        return {
            "images": image_count(connection),
            "conflicts": conflict_count(connection),
            "identity_changed": conflict_count(connection, ConflictKind.IDENTITY),
            "outdated_results": len(outdated_deliveries(connection)),
            "half_corrected": len(half_corrected(connection)),
            "held": len(held(connection)),
            "series": series_by_state(connection),
            "jobs": jobs_by_state(connection),
            "outcomes": jobs_by_outcome(connection),
            "deliveries": deliveries_by_state(connection),
            "commitments": commitments_by_state(connection),
            "procedure_steps": procedure_steps_by_state(connection),
            "overdue": [asdict(delivery) for delivery in overdue_deliveries(connection)],
            "down": [asdict(one) | {"paused": one.paused} for one in circuits(connection) if one.opened_at is not None],
            "quarantined": quarantined_count(connection),
            "processes": by_role(connection),
            "free_gib": round(space_of(folder).free_gib, 1),
            "studies": [_study(study) for study in latest],
        }


def by_role(connection: sa.Connection) -> dict[str, int]:
    """Return the number of processes of each role with a recent heartbeat."""
    return processes_by_role(connection, since=now() - ALIVE_SECONDS)


def _study(study: StudyProgress) -> dict[str, Any]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "series": len(study.series),
        "images": study.images,
        "last_at": study.last_at,
        "progress": study.progress,
        "jobs": [
            {
                "pipeline": one.job.pipeline,
                "state": one.job.state,
                "stage": one.job.stage,
                "outcome": one.job.outcome,
                "progress": one.progress,
                "id": one.job.id,
            }
            for one in study.jobs
        ],
    }
