"""Transitions of a job, as functions of a connection. Nothing here knows how stages are executed.

SCHEDULED -> IN PROGRESS -> COMPLETED, or CANCELED with a reason. A job walks through the stages infer, encode and
deliver. Each function that moves a job on returns the attempts that are due now; the caller enqueues them in the same
transaction, so that row and queue can never disagree.

An ``Attempt`` names the job's ``run``, which every retry and every take-over raises. The report of an attempt that is
no longer the one due - a worker that was presumed dead and came back, a cancelled job - changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa

from node.config import FORWARD
from node.errors import NodeError, UnreachableError, error_code
from node.ledger.clock import ledger_clock
from node.ledger.deliveries import cancel_deliveries, release_delivery
from node.ledger.dependents import release_dependents
from node.ledger.destination_circuits import open_circuit
from node.ledger.events import EventKind, record_event
from node.ledger.job_outcome import record_outcome
from node.ledger.jobs import Attempt, Job, Retries, due_of, get_job, update_job
from node.ledger.operator_switches import is_stopped
from node.ledger.pending_attempts import is_delivered
from node.ledger.pipeline_failures import begin_probe, record_failure, reset_failures
from node.ledger.states import ACTIVE, DeliveryState, JobStage, JobState, WithoutAnalysis
from node.ledger.tables import delivery, event, job
from node.outcome import Outcome
from node.reasons import Reason, ReasonCode, failed, reason

Write = Callable[[sa.Connection], None]
"""What a stage adds to the transaction that ends it."""


def begin_attempt(connection: sa.Connection, attempt: Attempt) -> Job | None:
    """The job to work on, or ``None`` when this attempt is no longer the one due."""
    current = _locked(connection, attempt)
    if current is not None and attempt.stage == JobStage.INFER and is_stopped(connection, current.pipeline):
        return None  # it stays due; whoever starts the pipeline puts it back into the queue
    if current is not None:
        update_job(connection, current.id, state=JobState.IN_PROGRESS, next_at=None)
        if attempt.stage == JobStage.INFER:
            begin_probe(connection, current.pipeline)
        if attempt.stage == JobStage.DELIVER:
            _update_delivery(connection, attempt, next_at=None)
        if attempt.stage != JobStage.DELIVER or not attempt.number:
            _record_attempt(connection, EventKind.ATTEMPT_STARTED, attempt)
    return current


def finish_attempt(connection: sa.Connection, attempt: Attempt, seconds: float, write: Write) -> list[Attempt] | None:
    """The attempt did its work: ``write`` it, and say what is due next.

    ``None``, and nothing written, when this attempt is no longer the one due.
    """
    current = _locked(connection, attempt)
    if current is None:
        return None
    write(connection)
    _record_attempt(connection, EventKind.ATTEMPT_FINISHED, attempt, seconds=seconds)
    if attempt.stage == JobStage.DELIVER:
        _update_delivery(connection, attempt, ended_at=ledger_clock(connection), next_at=None)
        complete_delivered(connection, current.id)
        return []
    if attempt.stage == JobStage.INFER:
        reset_failures(connection, current.pipeline)
    stage = JobStage.ENCODE if attempt.stage == JobStage.INFER else JobStage.DELIVER
    update_job(connection, current.id, stage=stage, attempt=0, error=None, progress_at=ledger_clock(connection))
    complete_delivered(connection, current.id)
    released = release_dependents(connection, current.id) if stage == JobStage.DELIVER else []
    return [*due_of(connection, get_job(connection, current.id)), *released]


def fail_attempt(
    connection: sa.Connection,
    attempt: Attempt,
    error: str,
    seconds: float,
    retries: Retries,
    *,
    permanent: bool,
    failure: BaseException | None = None,
) -> list[Attempt]:
    """The attempt failed: another one after a delay, or the end of trying.

    ``error`` is for the operator; radiologists see only the class of ``failure``.
    """
    current = _locked(connection, attempt)
    if current is None:
        return []
    failed = attempt.number + 1
    if attempt.stage == JobStage.INFER:
        record_failure(connection, current.pipeline, current.id, seconds, failure)
    if is_news(connection, attempt, error):
        code = None if failure is None else error_code(failure)
        _record_attempt(connection, EventKind.ATTEMPT_FAILED, attempt, seconds=seconds, error_code=code, error=error)
    is_outage = isinstance(failure, NodeError) and failure.is_outage
    if permanent or (retries.max_attempts is not None and failed >= retries.max_attempts and not is_outage):
        return _give_up(connection, current, attempt, error, failure)
    delay = retries.delay(failed)
    if isinstance(failure, NodeError) and failure.retry_seconds is not None:
        delay = failure.retry_seconds
    if attempt.stage == JobStage.DELIVER:
        delay = _postpone_delivery(connection, attempt, error, delay, failure)
    else:
        update_job(connection, current.id, attempt=failed, next_at=ledger_clock(connection) + delay, error=error)
    next_one = replace(attempt, number=failed, delay_seconds=delay)
    return [replace(next_one, pipeline=current.pipeline, priority=current.priority)]


def withhold_attempt(connection: sa.Connection, attempt: Attempt, error: str, failure: NodeError) -> None:
    """Nothing may leave, a report of the failure neither: end the job with ``error``, for an operator to see."""
    current = _locked(connection, attempt)
    if current is not None:
        update_job(connection, current.id, outcome=WithoutAnalysis.HELD)
        _cancel(connection, current.id, reason(ReasonCode.ERROR, error_code=failure.code, explanation=error))


def is_news(connection: sa.Connection, attempt: Attempt, error: str) -> bool:
    """Whether an attempt fails otherwise than the one before it.

    A delivery is tried for ever: a failure that repeats is reported once, and the next line counts its attempts.
    """
    if attempt.stage != JobStage.DELIVER or not attempt.number:
        return True
    of_job = sa.select(job.c.study_instance_uid).where(job.c.id == attempt.job_id).scalar_subquery()
    last = connection.scalar(
        sa.select(event.c.parameters)
        .where(event.c.study_instance_uid == of_job, event.c.job_id == attempt.job_id)
        .where(event.c.kind == EventKind.ATTEMPT_FAILED, event.c.stage == JobStage.DELIVER)
        .where(event.c.destination == attempt.subject)
        .order_by(event.c.id.desc())
        .limit(1)
    )
    return last is None or bool(last["error"] != error)


def cancel_job(connection: sa.Connection, job_id: str, why: Reason) -> list[Attempt]:
    """Stop a job; due are those that waited for it. Raises ``NotFoundError``, or ``NodeError`` when it has ended."""
    current = get_job(connection, job_id)
    if current.state not in ACTIVE:
        raise NodeError(f"job {job_id} is {current.state}; only SCHEDULED or IN PROGRESS jobs can be cancelled")
    return _cancel(connection, job_id, why)


def supersede_jobs(connection: sa.Connection, study: str, series: str, generation: int) -> None:
    """Stop the unfinished jobs of earlier generations of a series: their input is no longer all there is."""
    of_series = sa.and_(job.c.study_instance_uid == study, job.c.series_instance_uid == series)
    earlier = sa.and_(of_series, job.c.generation < generation)
    cancel_active(connection, earlier, reason(ReasonCode.SUPERSEDED, generation=generation))


def cancel_active(connection: sa.Connection, which: sa.ColumnElement[bool], why: Reason) -> None:
    """Stop those of the analyses that have not ended; the forwarding of images continues."""
    analyses = sa.and_(which, job.c.state.in_(ACTIVE), job.c.pipeline != FORWARD)
    for job_id in connection.scalars(sa.select(job.c.id).where(analyses).order_by(job.c.id)).all():
        _cancel(connection, job_id, why)


def renew_attempts(connection: sa.Connection, attempt: Attempt, *, was_lost: bool = True) -> list[Attempt]:
    """The same stage in a new run: the attempt is due but in nobody's queue, or else in one that is not its own."""
    current = _locked(connection, attempt)
    if current is None:
        return []
    state = current.state if was_lost else JobState.SCHEDULED
    update_job(connection, current.id, run=current.run + 1, state=state)
    if was_lost:
        _record_attempt(connection, EventKind.JOB_RECOVERED, attempt)
    return due_of(connection, get_job(connection, current.id))


def complete_delivered(connection: sa.Connection, job_id: str) -> None:
    """COMPLETED when no object is pending; CANCELED when a destination was given up."""
    if not is_delivered(connection, job_id):
        return
    refused = connection.execute(
        sa.select(delivery.c.destination, delivery.c.error)
        .where(delivery.c.job_id == job_id, delivery.c.state == DeliveryState.CANCELED)
        .order_by(delivery.c.destination)
    ).all()
    if refused:
        why = reason(ReasonCode.DELIVERIES_REFUSED, deliveries={name: error or "" for name, error in refused})
        _cancel(connection, job_id, why)
        return
    update_job(connection, job_id, state=JobState.COMPLETED, next_at=None, error=None)
    record_event(connection, job_id, EventKind.JOB_COMPLETED)


def _give_up(
    connection: sa.Connection, current: Job, attempt: Attempt, error: str, failure: BaseException | None
) -> list[Attempt]:
    if attempt.stage == JobStage.DELIVER:
        at = ledger_clock(connection)
        _update_delivery(connection, attempt, state=DeliveryState.CANCELED, error=error, next_at=None, ended_at=at)
        complete_delivered(connection, current.id)
        return []
    why = failed(failure, current.id)
    if attempt.stage == JobStage.ENCODE and current.outcome == Outcome.FAILED:
        return _cancel(connection, current.id, reason(ReasonCode.NO_REPORT, why=why))
    record_outcome(connection, current.id, Outcome.FAILED, why)
    fresh = {"attempt": 0, "next_at": None, "error": error, "progress_at": ledger_clock(connection)}
    update_job(connection, current.id, stage=JobStage.ENCODE, run=current.run + 1, **fresh)
    return due_of(connection, get_job(connection, current.id))


def _cancel(connection: sa.Connection, job_id: str, why: Reason) -> list[Attempt]:
    """End a job. Attempts that are due and that nobody enqueues are found by the next reconciliation."""
    has_result = get_job(connection, job_id).stage == JobStage.DELIVER
    update_job(connection, job_id, state=JobState.CANCELED, next_at=None, reason=why)
    cancel_deliveries(connection, job_id)
    record_event(connection, job_id, EventKind.JOB_CANCELED, reason=why)
    return [] if has_result else release_dependents(connection, job_id)


def _locked(connection: sa.Connection, attempt: Attempt) -> Job | None:
    """The job, held until the transaction ends, if this attempt is the one due."""
    connection.execute(sa.select(job.c.id).where(job.c.id == attempt.job_id).with_for_update())
    current = get_job(connection, attempt.job_id)
    if current.state not in ACTIVE or (current.run, current.stage) != (attempt.run, attempt.stage):
        return None
    if attempt.stage != JobStage.DELIVER:
        return current if current.attempt == attempt.number else None
    # Deliveries are fenced by their workflow id instead: the sender counts attempts in a way of its own.
    wanted = sa.select(delivery.c.state).where(
        _of(attempt), delivery.c.ended_at.is_(None), delivery.c.state != DeliveryState.CANCELED
    )
    return current if connection.scalar(wanted) is not None else None


def _postpone_delivery(
    connection: sa.Connection, attempt: Attempt, error: str, delay: float, failure: BaseException | None
) -> float:
    """Record why an attempt did not finish and when the next one is due; return the delay until then.

    There is none when the destination was reached, or had proved the storage, before this attempt could be recorded.
    """
    waits = isinstance(failure, UnreachableError) and failure.until_reached
    reached = waits and open_circuit(connection, attempt.subject) is None
    confirmed = release_delivery(connection, attempt.job_id, attempt.subject) == DeliveryState.CONFIRMED
    delay = 0.0 if reached or confirmed else delay
    _update_delivery(connection, attempt, error=None if confirmed else error, next_at=ledger_clock(connection) + delay)
    return delay


def _of(attempt: Attempt) -> sa.ColumnElement[bool]:
    return sa.and_(delivery.c.job_id == attempt.job_id, delivery.c.destination == attempt.subject)


def _update_delivery(connection: sa.Connection, attempt: Attempt, **values: object) -> None:
    connection.execute(sa.update(delivery).where(_of(attempt)).values(**values, updated_at=ledger_clock(connection)))


def _record_attempt(
    connection: sa.Connection,
    kind: EventKind,
    attempt: Attempt,
    *,
    seconds: float | None = None,
    error_code: str | None = None,
    **parameters: object,
) -> None:
    record_event(
        connection,
        attempt.job_id,
        kind,
        stage=attempt.stage,
        attempt=attempt.number + 1,
        seconds=seconds,
        destination=attempt.subject or None,
        error_code=error_code,
        **parameters,
    )
