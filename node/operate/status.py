"""Status of the node: counts, latest studies, pending work and failures, from the ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.corrections import half_corrected, outdated_deliveries
from node.ledger.counts import (
    commitments_by_state,
    conflict_count,
    deliveries_by_state,
    jobs_by_outcome,
    jobs_by_state,
    procedure_steps_by_state,
    quarantined_count,
    received_files,
    series_by_state,
)
from node.ledger.destination_circuits import circuits
from node.ledger.drained_machines import drained_machines
from node.ledger.engine import snapshot
from node.ledger.held_series import held
from node.ledger.members import lost_members
from node.ledger.patient_changes import ChangeKind, changed_studies
from node.ledger.pending_deliveries import overdue_deliveries
from node.ledger.pipeline_failures import failing_pipelines
from node.ledger.progress import StudyProgress
from node.ledger.promotions import active_promotions
from node.ledger.shadow import pipelines_in_shadow
from node.ledger.states import ConflictKind
from node.ledger.study_progress import latest_studies, progress_of
from node.ledger.turnaround import arrived_since, stages_by_pipeline
from node.operate.fleet import live_members
from node.operate.pipeline_obstacles import without_worker
from node.operate.turnaround import DAY_SECONDS, median_stages, turnarounds
from node.reasons import reason_text
from node.spool.free_space import space_of

LOST_SECONDS = 30.0
"""A receiver that died is taken over in less time where another receiver sees its files."""


def status(engine: sa.Engine, folder: Path, studies: int | Sequence[str] = 20) -> dict[str, Any]:
    """Counts by state, the latest ``studies`` (or these), processes that beat, and free disk space in GiB."""
    with snapshot(engine) as connection:
        wanted = latest_studies(connection, studies) if isinstance(studies, int) else studies
        latest = progress_of(connection, wanted)
        arrived = arrived_since(connection, ledger_clock(connection) - DAY_SECONDS)
        return {
            "images": received_files(connection).files,
            "conflicts": conflict_count(connection),
            "identity_changed": conflict_count(connection, ConflictKind.IDENTITY),
            "outdated_results": len(outdated_deliveries(connection)),
            "half_corrected": len(half_corrected(connection)),
            "held": len(held(connection)),
            "merged_patients": sum(study.kind == ChangeKind.MERGE for study in changed_studies(connection)),
            "series": series_by_state(connection),
            "jobs": jobs_by_state(connection),
            "outcomes": jobs_by_outcome(connection),
            "deliveries": deliveries_by_state(connection),
            "commitments": commitments_by_state(connection),
            "procedure_steps": procedure_steps_by_state(connection),
            "overdue": [asdict(delivery) for delivery in overdue_deliveries(connection)],
            "down": [
                asdict(circuit) | {"paused": circuit.paused}
                for circuit in circuits(connection)
                if circuit.opened_at is not None
            ],
            "failing": [asdict(failures) for failures in failing_pipelines(connection).values()],
            "in_shadow": [
                {"pipeline": name, "since": stop.stopped_at, "reason": reason_text(stop.why)}
                for name, stop in pipelines_in_shadow(connection).items()
            ],
            "promotions": [asdict(promotion) for promotion in active_promotions(connection)],
            "without_worker": [asdict(queue) for queue in without_worker(connection)],
            "quarantined": quarantined_count(connection),
            "processes": by_role(connection),
            "lost": lost_receivers(connection),
            "drained": [
                {"host": host, "machine": machine, "since": at}
                for (machine, host), at in sorted(drained_machines(connection).items())
            ],
            "turnaround": [asdict(turnaround) for turnaround in turnarounds(arrived)],
            "turnaround_stages": {
                name: median_stages(staged) for name, staged in stages_by_pipeline(connection, arrived).items()
            },
            "free_gib": round(space_of(folder).free_gib, 1),
            "studies": [_study(study) for study in latest],
        }


def lost_receivers(connection: sa.Connection) -> list[dict[str, Any]]:
    """Receivers that died and whose files wait for their machine, with the time of their last heartbeat."""
    before = ledger_clock(connection) - LOST_SECONDS
    return [
        {
            "machine": beat.member.machine,
            "host": beat.member.host_name,
            "process": beat.member.pid,
            "last_beat_at": beat.at,
        }
        for beat in lost_members(connection)
        if beat.at < before
    ]


def by_role(connection: sa.Connection) -> dict[str, int]:
    """Return the number of live processes of each role."""
    return Counter(member.role for member in live_members(connection))


def _study(study: StudyProgress) -> dict[str, Any]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "series": len(study.series),
        "each_series": [
            {
                "series_instance_uid": series.series.series_instance_uid,
                "modality": series.series.modality,
                "images": series.series.instances,
                "progress": series.progress,
            }
            for series in study.series
        ],
        "images": study.images,
        "last_at": study.last_at,
        "progress": study.progress,
        "jobs": [
            {
                "pipeline": job.job.pipeline,
                "state": job.job.state,
                "stage": job.job.stage,
                "outcome": job.job.outcome,
                "progress": job.progress,
                "shadow": job.job.shadow,
                "id": job.job.id,
            }
            for job in study.jobs
        ],
    }
