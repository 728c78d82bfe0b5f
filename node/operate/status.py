"""How is the node? Counts, the latest studies, what waits and what failed, from the ledger alone."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.ledger.circuits import circuits
from node.ledger.conflicts import outdated_deliveries
from node.ledger.corrections import half_corrected
from node.ledger.engine import now
from node.ledger.held_series import held
from node.ledger.pending_deliveries import OVERDUE, statuses
from node.ledger.tables import (
    commitment,
    conflict,
    delivery,
    executor,
    instance,
    job,
    procedure_step,
    result,
    series,
)

ALIVE_SECONDS = 30.0


def status(engine: sa.Engine, folder: Path, studies: int = 20) -> dict[str, Any]:
    """Counts by state, the latest ``studies``, processes that beat, and free disk space in GiB."""
    with engine.connect() as connection:

        def count(table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
            return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0

        def by(table: sa.Table, column: sa.Column[Any]) -> dict[str, int]:
            counted = sa.select(column, sa.func.count()).where(column.is_not(None)).group_by(column)
            rows = connection.execute(counted.select_from(table))
            return {str(key): number for key, number in rows}

        last = sa.func.max(series.c.last_at).label("last_at")
        latest = connection.execute(
            sa.select(
                series.c.study_instance_uid,
                sa.func.count().label("series"),
                sa.func.sum(series.c.instances).label("images"),
                last,
            )
            .group_by(series.c.study_instance_uid)
            .order_by(last.desc())
            .limit(studies)
        ).mappings()
        found = [dict(row) for row in latest]
        for study in found:
            rows = connection.execute(
                sa.select(job.c.pipeline, job.c.state, job.c.stage, job.c.outcome, job.c.id)
                .where(job.c.study_instance_uid == study["study_instance_uid"])
                .order_by(job.c.created_at)
            ).mappings()
            study["jobs"] = [dict(row) for row in rows]
        return {
            "images": count(instance),
            "conflicts": count(conflict),
            "identity_changed": count(conflict, conflict.c.kind == "identity"),
            "outdated_results": len(outdated_deliveries(connection)),
            "half_corrected": len(half_corrected(connection)),
            "held": len(held(connection)),
            "series": by(series, series.c.state),
            "jobs": by(job, job.c.state),
            "outcomes": by(job, job.c.outcome),
            "deliveries": by(delivery, delivery.c.state),
            "commitments": by(commitment, commitment.c.state),
            "procedure_steps": by(procedure_step, procedure_step.c.state),
            "overdue": [asdict(one) for one in statuses(connection, OVERDUE)],
            "down": [asdict(one) | {"paused": one.paused} for one in circuits(connection) if one.opened_at is not None],
            "quarantined": count(result, result.c.quarantine.is_not(None)),
            "processes": by_role(connection),
            "free_gib": round(shutil.disk_usage(folder).free / 2**30, 1),
            "studies": found,
        }


def by_role(connection: sa.Connection) -> dict[str, int]:
    """How many processes of each role have beaten lately."""
    rows = connection.execute(
        sa.select(executor.c.role, sa.func.count())
        .where(executor.c.beat_at > now() - ALIVE_SECONDS)
        .group_by(executor.c.role)
    )
    return {str(role): number for role, number in rows}
