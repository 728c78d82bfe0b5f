"""How far a workitem is, in the words of PS3.4 CC.1.1: a projection of the states of the ledger. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from node.ledger.jobs import Job
from node.ledger.states import JobStage, JobState, WorkitemState
from node.ledger.workitem_progress import WorkitemProgress
from node.outcome import Outcome
from node.reasons import Reason, reason_text


class StepState(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


FINAL = (StepState.COMPLETED, StepState.CANCELED)
_INFER, _ENCODE, _DELIVER = 10, 60, 70
"""Percentages at which the stages begin."""


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """State and progress of a workitem."""

    state: StepState
    percent: int
    description: str
    """For people; names no patient."""
    reason: Reason | str | None = None
    """Why it was canceled, or what its outcome says."""
    ended_at: float | None = None
    """Seconds since 1970 UTC."""


def progress_of(of: WorkitemProgress) -> StepProgress:
    """Return how far a workitem is.

    An analysis that failed is CANCELED: nothing that was requested was performed.
    """
    if of.job is None:
        requested = of.requested
        if requested is not None and requested.state == WorkitemState.CANCELED:
            return _ended(StepState.CANCELED, 0, requested.reason, requested.updated_at)
        return StepProgress(state=StepState.SCHEDULED, percent=0, description="waits until all images are here")
    job = of.job
    match job.state:
        case JobState.CANCELED:
            return _ended(StepState.CANCELED, _percent(of, job), job.reason, job.updated_at)
        case JobState.COMPLETED if job.outcome == Outcome.FAILED:
            return _ended(StepState.CANCELED, _percent(of, job), job.reason, job.updated_at)
        case JobState.COMPLETED:
            return _ended(StepState.COMPLETED, 100, job.reason, job.updated_at, job.outcome or "")
    if job.state == JobState.SCHEDULED and job.stage == JobStage.INFER:
        return StepProgress(state=StepState.SCHEDULED, percent=0, description="waits for a worker")
    return StepProgress(state=StepState.IN_PROGRESS, percent=_percent(of, job), description=_description(of, job))


def _ended(state: StepState, percent: int, why: Reason | str | None, at: float, outcome: str = "") -> StepProgress:
    return StepProgress(state=state, percent=percent, description=outcome or reason_text(why), reason=why, ended_at=at)


def _percent(of: WorkitemProgress, job: Job) -> int:
    if job.stage == JobStage.INFER:
        return _INFER
    if job.stage == JobStage.ENCODE:
        return _ENCODE
    stored = of.deliveries - of.pending
    return _DELIVER + (25 * stored // of.deliveries if of.deliveries else 0)


def _description(of: WorkitemProgress, job: Job) -> str:
    if job.stage == JobStage.INFER:
        return "analysis"
    if job.stage == JobStage.ENCODE:
        return "results are written"
    return f"results are delivered: {of.deliveries - of.pending} of {of.deliveries} destinations have them"
