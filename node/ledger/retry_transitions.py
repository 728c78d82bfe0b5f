"""Transitions of a job that has gone its way: tried again, sent again, taken back.

Like those of ``node.ledger.transitions`` they return the attempts that are due now.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from node.config import FORWARD
from node.errors import NodeError
from node.ledger.clock import ledger_clock
from node.ledger.deliveries import delete_deliveries, reopen_delivery, schedule_delivery
from node.ledger.dependents import completed_dependents
from node.ledger.events import EventKind, record_event
from node.ledger.held_series import refuse_held
from node.ledger.job_outcome import schedule_results
from node.ledger.jobs import Attempt, Job, due_of, get_job, retracted_jobs, update_job
from node.ledger.missing_copies import record_results_held
from node.ledger.pending_deliveries import HELD, kinds_of
from node.ledger.pipeline_failures import reset_failures
from node.ledger.replaced_results import remember_delivered
from node.ledger.retention import refuse_purged
from node.ledger.states import ACTIVE, JobStage, JobState, ShadowCause
from node.ledger.tables import delivery, delivery_instance, result


def retry_job(connection: sa.Connection, job_id: str, stage: str | None = None) -> list[Attempt]:
    """Begin again at ``stage``; by default at deliver when a job was cancelled there, else at infer.

    Everything is sent again. What infer hands over is kept only until encode is through. Completed jobs that need the
    result begin again after it.

    Raises ``NotFoundError``, or ``NodeError`` when the job, or one that needs its result, has not ended, its series is
    held, or the stage does not exist or has nothing to begin with.
    """
    current = get_job(connection, job_id)
    if current.state in ACTIVE:
        raise NodeError(
            f"job {job_id} is {current.state} in stage {current.stage}; only COMPLETED or CANCELED jobs can be "
            "retried. Wait for its end, or cancel it first"
        )
    refuse_held(connection, current.study_instance_uid, current.series_instance_uid)
    kinds = kinds_of(connection, job_id)
    stage = _first_stage(current, stage, rejected=bool(retracted_jobs(connection, [job_id])), has_results=bool(kinds))
    dependents = completed_dependents(connection, current) if stage != JobStage.DELIVER else []
    needs_images = stage != JobStage.DELIVER or current.pipeline == FORWARD
    refuse_purged(connection, current, needs_images=needs_images)
    if stage != JobStage.DELIVER:
        remember_delivered(connection, job_id)
    connection.execute(sa.delete(delivery_instance).where(delivery_instance.c.job_id == job_id))
    delete_deliveries(connection, job_id, kinds)
    if stage == JobStage.DELIVER:
        schedule_results(connection, job_id, kinds)
    if stage == JobStage.INFER:
        reset_failures(connection, current.pipeline)
        update_job(connection, job_id, outcome=None, reason=None)
    if current.shadow in (ShadowCause.STOP_RULE, ShadowCause.NOT_ACCEPTED):  # infer and encode decide again
        update_job(connection, job_id, shadow=None)
    at = ledger_clock(connection)
    fresh = {"attempt": 0, "next_at": None, "error": None, "progress_at": at, "results_purged_at": None}
    update_job(connection, job_id, state=JobState.SCHEDULED, stage=stage, run=current.run + 1, **fresh)
    record_event(connection, job_id, EventKind.JOB_RETRIED, stage=stage)
    due = due_of(connection, get_job(connection, job_id))
    for dependent in dependents:  # which wait for this one: nothing of theirs is due
        retry_job(connection, dependent.id, JobStage.INFER)
    return due


def _first_stage(of: Job, wanted: str | None, *, rejected: bool, has_results: bool) -> str:
    """Where a retry begins. Raises ``NodeError`` when it cannot begin at the stage that is ``wanted``."""
    is_unsent = of.pipeline == FORWARD or (of.state, of.stage) == (JobState.CANCELED, JobStage.DELIVER)
    stage = wanted or (JobStage.DELIVER if is_unsent and not rejected else JobStage.INFER)
    if stage not in tuple(JobStage):
        *others, last = JobStage
        raise NodeError(f"stage {stage!r} does not exist; use {', '.join(others)} or {last}")
    if of.pipeline == FORWARD and stage != JobStage.DELIVER:
        raise NodeError(f"job {of.id} has nothing to {stage}: it sends images on; retry it from {JobStage.DELIVER}")
    if stage == JobStage.DELIVER and rejected:
        raise NodeError(f"job {of.id} is retracted, its objects are rejected; retry it from {JobStage.INFER}")
    if (stage == JobStage.ENCODE and of.stage != JobStage.ENCODE) or (stage == JobStage.DELIVER and not has_results):
        raise NodeError(f"job {of.id} has nothing to {stage}; retry it from {JobStage.INFER}")
    return stage


def send_again(connection: sa.Connection, job_id: str, destination: str, lost: Sequence[str]) -> list[Attempt]:
    """A destination lost what it had stored of a job: owe it these instances once more.

    Raises ``NotFoundError``, or ``NodeError`` when the job was cancelled.
    """
    current = get_job(connection, job_id)
    if current.state == JobState.CANCELED:
        raise NodeError(f"job {job_id} is {JobState.CANCELED}; retry it first")
    reopen_delivery(connection, job_id, destination, lost)
    update_job(connection, job_id, state=JobState.SCHEDULED, stage=JobStage.DELIVER, run=current.run + 1)
    return due_of(connection, get_job(connection, job_id))


def retract_job(
    connection: sa.Connection, job_id: str, note: dict[str, object], reason: str, machine: str, *, copies: int
) -> list[Attempt]:
    """Keep a rejection note as a result of the job and schedule it for every destination that holds objects of it.

    ``machine`` has its file. Deliveries to other destinations end. Raises ``NotFoundError``, or ``NodeError`` when no
    destination holds anything.
    """
    current = get_job(connection, job_id)
    stored = sa.exists().where(
        delivery_instance.c.job_id == delivery.c.job_id,
        delivery_instance.c.destination == delivery.c.destination,
        HELD,
    )
    holders = set(connection.scalars(sa.select(delivery.c.destination).where(delivery.c.job_id == job_id, stored)))
    if not holders:
        raise NodeError(f"no destination holds anything of job {job_id}; `ainode cancel` it if it must not go on")
    kinds = kinds_of(connection, job_id)
    delete_deliveries(connection, job_id, kinds.keys() - holders)
    connection.execute(sa.insert(result), [{**note, "created_at": ledger_clock(connection)}])
    record_results_held(connection, machine, copies, [str(note["path"])])
    for destination in sorted(holders):
        of = kinds[destination]
        schedule_delivery(connection, job_id, destination, None if of is None else {*of, str(note["kind"])})
    update_job(
        connection,
        job_id,
        state=JobState.SCHEDULED,
        stage=JobStage.DELIVER,
        run=current.run + 1,
        attempt=0,
        next_at=None,
    )
    record_event(connection, job_id, EventKind.JOB_RETRACTED, reason=reason, destinations=sorted(holders))
    return due_of(connection, get_job(connection, job_id))
