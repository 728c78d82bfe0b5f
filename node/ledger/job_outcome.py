"""What came of a job: its outcome, its results, and to whom they are owed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.deliveries import schedule_delivery
from node.ledger.events import EventKind, record_event
from node.ledger.incomplete import outcome_of_incomplete
from node.ledger.jobs import get_job, update_job
from node.ledger.tables import result
from node.reasons import Reason


def record_outcome(connection: sa.Connection, job_id: str, outcome: str, why: Reason | None) -> None:
    """Keep what the analysis came to, with the reason where there is one: not more than its images allow."""
    outcome, why = outcome_of_incomplete(outcome, why, get_job(connection, job_id).incomplete)
    update_job(connection, job_id, outcome=outcome, reason=why)
    record_event(connection, job_id, EventKind.OUTCOME, outcome=outcome, reason=why)


def escalate(connection: sa.Connection, job_id: str, why: Reason | None) -> None:
    """Mark the result of a job as urgent: its deliveries go before others. ``None``: the result is not, or not now."""
    update_job(connection, job_id, urgent=why)
    if why is not None:
        update_job(connection, job_id, priority=1)
        record_event(connection, job_id, EventKind.ESCALATED, reason=why)


def record_results(connection: sa.Connection, job_id: str, rows: Sequence[dict[str, object]]) -> None:
    """Replace the job's ``result`` rows: a repeated encoding makes the same instances again."""
    connection.execute(sa.delete(result).where(result.c.job_id == job_id))
    if rows:
        connection.execute(sa.insert(result), [{**row, "created_at": ledger_clock(connection)} for row in rows])


def schedule_results(
    connection: sa.Connection, job_id: str, destinations: Mapping[str, Collection[str] | None]
) -> None:
    """Owe each of ``destinations`` the job's results of its kinds; without any they are kept here only."""
    for destination, kinds in destinations.items():
        schedule_delivery(connection, job_id, destination, kinds)
