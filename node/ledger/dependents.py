"""Dependents: jobs that need the result of another one, when that one comes to it or is tried again."""

from __future__ import annotations

import sqlalchemy as sa

from node.errors import NodeError
from node.ledger.clock import ledger_clock
from node.ledger.jobs import Attempt, Job, due_of, get_job, update_job
from node.ledger.prerequisites import dependent_jobs, waits
from node.ledger.states import ACTIVE, JobStage, JobState


def release_dependents(connection: sa.Connection, job_id: str) -> list[Attempt]:
    """Return the attempts that are due because a job is past encode, or has ended without a result.

    What the other job came to is for infer to read: without a result its job ends without a run.
    """
    due: list[Attempt] = []
    for dependent in [get_job(connection, dependent_id) for dependent_id in dependent_jobs(connection, job_id)]:
        is_released = dependent.stage == JobStage.INFER and not waits(connection, dependent.id)
        if is_released and dependent.state == JobState.SCHEDULED:
            update_job(connection, dependent.id, progress_at=ledger_clock(connection))
            due += due_of(connection, dependent)
    return due


def completed_dependents(connection: sa.Connection, of: Job) -> list[Job]:
    """The dependents that have to be done again when a job is.

    Raises ``NodeError`` while one of them is active: it may have used the result that is about to be replaced.
    """
    dependents = [get_job(connection, dependent_id) for dependent_id in dependent_jobs(connection, of.id)]
    if active := next((dependent for dependent in dependents if dependent.state in ACTIVE), None):
        raise NodeError(
            f"job {active.id} of pipeline {active.pipeline} needs the result of job {of.id} and is {active.state}; "
            "wait for its end, or cancel it first"
        )
    return [dependent for dependent in dependents if dependent.state == JobState.COMPLETED]
