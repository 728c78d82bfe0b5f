"""The timeline of a study: the table ``event``, which `ainode explain` reads."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.engine import now
from node.ledger.tables import event, job


def record_event(connection: sa.Connection, job_id: str, what: str, detail: str) -> None:
    """Add a line to the timeline of the job's study; nothing when there is no such job."""
    of_job = sa.select(
        sa.literal(now()),
        job.c.study_instance_uid,
        job.c.series_instance_uid,
        job.c.id,
        sa.literal(what),
        sa.literal(detail),
    ).where(job.c.id == job_id)
    columns = ["at", "study_instance_uid", "series_instance_uid", "job_id", "what", "detail"]
    connection.execute(sa.insert(event).from_select(columns, of_job))
