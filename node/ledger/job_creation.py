"""Creation of jobs: the first transition, from a decision to attempts that are due."""

from __future__ import annotations

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.events import EventKind, record_event
from node.ledger.incomplete import incomplete_of, outcome_of_incomplete
from node.ledger.job_outcome import schedule_results
from node.ledger.jobs import Attempt, NewJob, due_of, get_job
from node.ledger.states import LEAST_URGENT, JobStage, JobState, WithoutAnalysis
from node.ledger.tables import instance, job, original, series


def create_job(connection: sa.Connection, new: NewJob) -> list[Attempt] | None:
    """Schedule a job; ``None``: it is there already."""
    forwards = new.pipeline == FORWARD
    came = sa.select(sa.func.max(series.c.last_at)).where(
        series.c.study_instance_uid == new.study_instance_uid,
        series.c.series_instance_uid.in_((new.series_instance_uid, *new.companions.values())),
    )
    at = max(ledger_clock(connection), connection.scalar(came) or 0.0)  # a receiver's clock may be up to a second ahead
    incomplete, caveat = (None, None) if forwards else incomplete_of(connection, new)
    outcome, why = new.outcome, new.reason
    if outcome is not None:
        outcome, why = outcome_of_incomplete(outcome, why, incomplete)
    row = {
        "id": new.id,
        "study_instance_uid": new.study_instance_uid,
        "series_instance_uid": new.series_instance_uid,
        "generation": new.generation,
        "pipeline": new.pipeline,
        "rule": new.rule,
        "companions": dict(new.companions) or None,
        "destinations": list(new.destinations),
        "priority": new.priority if new.shadow is None else LEAST_URGENT,
        "shadow": new.shadow,
        "after": new.after or None,
        "state": JobState.SCHEDULED,
        "stage": JobStage.DELIVER if forwards else JobStage.INFER if new.outcome is None else JobStage.ENCODE,
        "run": 0,
        "attempt": 0,
        "outcome": WithoutAnalysis.FORWARDED if forwards else outcome,
        "reason": why,
        "incomplete": incomplete,
        "caveat": caveat,
        "created_at": at,
        "updated_at": at,
        "progress_at": at,
    }
    if not insert_new(connection, job, [row]):
        return None
    record_event(connection, new.id, EventKind.JOB_SCHEDULED, pipeline=new.pipeline, rule=new.rule)
    if forwards:
        _schedule_originals(connection, new)
    return due_of(connection, get_job(connection, new.id))


def _schedule_originals(connection: sa.Connection, new: NewJob) -> None:
    """Owe the images of the series that no earlier generation has sent on as they are now."""
    query = sa.select(sa.literal(new.id), instance.c.sop_instance_uid).where(
        instance.c.study_instance_uid == new.study_instance_uid,
        instance.c.series_instance_uid == new.series_instance_uid,
        ~sa.exists().where(
            original.c.sop_instance_uid == instance.c.sop_instance_uid,
            original.c.job_id == job.c.id,
            job.c.created_at >= instance.c.received_at,
        ),
    )
    connection.execute(sa.insert(original).from_select(["job_id", "sop_instance_uid"], query))
    schedule_results(connection, new.id, dict.fromkeys(new.destinations))
