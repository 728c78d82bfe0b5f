"""How far a study, a series, a job or a delivery is: the one projection that every reader of the ledger shares.

Pure: it takes rows as values and derives from them. Readers choose their own words for what it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from node.config import FORWARD
from node.ledger.jobs import Job
from node.ledger.series import Series
from node.ledger.states import (
    ACTIVE,
    DecisionOutcome,
    DeliveryState,
    JobStage,
    JobState,
    SeriesState,
    ShadowCause,
    WithoutAnalysis,
)
from node.outcome import Outcome
from node.reasons import Reason


class Progress(StrEnum):
    """How far a study, a series or a job is. The order decides what is said of several: the first of theirs."""

    RECEIVING = "receiving"
    """Images arrive, or something defers completion."""
    UNDECIDED = "without decision"
    """Complete, and the router has not decided on this generation."""
    WAITING = "waiting"
    """A rule waits for other series of the study."""
    ROUTED = "routed"
    """A rule matches; its jobs follow in the same transaction."""
    QUEUED = "queued"
    """Waits for a worker, or for the next attempt."""
    RUNNING = "running"
    ENCODING = "encoding"
    DELIVERING = "delivering"
    """Objects are sent, or proof is awaited."""
    HELD = "held"
    """The identities of its images contradict one another."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    STORED = "stored"
    """Every destination has stored everything, not every one has confirmed it."""
    CONFIRMED = "confirmed"
    KEPT = "kept"
    """Finished, and no destination takes anything of it."""
    IGNORED = "ignored"
    """No rule matches."""


_ORDER = {progress: number for number, progress in enumerate(Progress)}
_ROUTINGS = {str(outcome): Progress(outcome) for outcome in DecisionOutcome}
OPEN = frozenset(progress for progress in Progress if _ORDER[progress] <= _ORDER[Progress.DELIVERING])
"""Something will still happen by itself."""
IN_WORK = frozenset((Progress.QUEUED, Progress.RUNNING, Progress.ENCODING))
"""Progress of a job that has no objects to deliver yet."""


class DeliveryStep(StrEnum):
    """How far a delivery is, in the order in which several are summed up."""

    CANCELLED = "cancelled"
    WAITING = "waiting"
    """Scheduled, or a sender works on it."""
    AWAITING_PROOF = "stored, proof awaited"
    STORED = "stored, no proof configured"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, kw_only=True)
class DeliveryProgress:
    """The objects of one job on their way to one destination."""

    job_id: str
    destination: str
    state: DeliveryState
    ended_at: float | None
    """When it was done with, in seconds since 1970 UTC; ``None``: another attempt comes, or proof is awaited."""

    @property
    def step(self) -> DeliveryStep:
        """How far it is."""
        match self.state:
            case DeliveryState.CANCELED:
                return DeliveryStep.CANCELLED
            case DeliveryState.CONFIRMED:
                return DeliveryStep.CONFIRMED
            case DeliveryState.STORED:
                return DeliveryStep.AWAITING_PROOF if self.ended_at is None else DeliveryStep.STORED
        return DeliveryStep.WAITING


@dataclass(frozen=True, kw_only=True)
class JobProgress:
    """One pipeline on one generation of a series, and what became of its objects."""

    job: Job
    deliveries: tuple[DeliveryProgress, ...] = ()
    """By destination."""

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return progress_of_job(
            self.job.state,
            self.job.stage,
            self.job.outcome,
            retries_later=self.job.next_at is not None,
            deliveries=[delivery.state for delivery in self.deliveries],
        )


def progress_of_job(
    state: str, stage: str, outcome: str | None, *, retries_later: bool, deliveries: Iterable[str]
) -> Progress:
    """How far a job is. ``deliveries``: their states; ``retries_later``: its next attempt has a time of its own."""
    if state == JobState.CANCELED:
        return Progress.HELD if outcome == WithoutAnalysis.HELD else Progress.CANCELLED
    if state == JobState.COMPLETED:
        if outcome == Outcome.FAILED:
            return Progress.FAILED
        states = set(deliveries)
        if not states:
            return Progress.KEPT
        return Progress.CONFIRMED if states == {DeliveryState.CONFIRMED} else Progress.STORED
    if stage == JobStage.INFER:
        return Progress.RUNNING if state == JobState.IN_PROGRESS and not retries_later else Progress.QUEUED
    return Progress.ENCODING if stage == JobStage.ENCODE else Progress.DELIVERING


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided on one generation of a series."""

    study_instance_uid: str
    series_instance_uid: str
    generation: int
    outcome: str
    reason: Reason | str
    cause: str | None
    """``"discontinued"``: a procedure step stopped it; ``None``: the rules decided."""


def routing_of(series: Series, decision: Decision | None) -> Progress:
    """How far the router is with a series; ``decision``: on its latest generation."""
    if series.state != SeriesState.COMPLETE:
        return Progress.RECEIVING
    return Progress.UNDECIDED if decision is None else _ROUTINGS[decision.outcome]


@dataclass(frozen=True, kw_only=True)
class SeriesProgress:
    """A series, what was decided on it and what is made of it."""

    series: Series
    decision: Decision | None
    """On its latest generation."""
    jobs: tuple[JobProgress, ...]
    """Of all its generations, oldest first."""

    @property
    def routing(self) -> Progress:
        """How far the router is with it: receiving, without decision, waiting, routed, held or ignored."""
        return routing_of(self.series, self.decision)

    @property
    def current_jobs(self) -> tuple[JobProgress, ...]:
        """The jobs that say how far the series is.

        Those of its latest generation, those that still work, and every one that sends images on: each sends those
        that the generations before it had not. An analysis of an earlier generation is superseded. What is tried in
        shadow says nothing of a series that has other jobs.
        """
        current = tuple(
            job
            for job in self.jobs
            if job.job.generation == self.series.generation or job.job.state in ACTIVE or job.job.pipeline == FORWARD
        )
        return tuple(job for job in current if job.job.shadow != ShadowCause.TRIAL) or current

    @property
    def progress(self) -> Progress:
        """The least advanced of its routing and of its current jobs."""
        jobs = [job.progress for job in self.current_jobs]
        return least_advanced(jobs if self.routing == Progress.ROUTED and jobs else [self.routing, *jobs])


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """A study and its series."""

    study_instance_uid: str
    series: tuple[SeriesProgress, ...]
    """In the order of their first image."""

    @property
    def first_at(self) -> float:
        """When its first image came, in seconds since 1970 UTC."""
        return min(series.series.first_at for series in self.series)

    @property
    def last_at(self) -> float:
        """When its last image came."""
        return max(series.series.last_at for series in self.series)

    @property
    def images(self) -> int:
        """Images received."""
        return sum(series.series.instances for series in self.series)

    @property
    def jobs(self) -> tuple[JobProgress, ...]:
        """The jobs of all its series and generations, oldest first."""
        jobs = (job for series in self.series for job in series.jobs)
        return tuple(sorted(jobs, key=lambda job: job.job.created_at))

    @property
    def progress(self) -> Progress:
        """The least advanced of its series."""
        return least_advanced([series.progress for series in self.series])


def least_advanced(of: Iterable[Progress]) -> Progress:
    """What is open first, then what went wrong, then what was reached least far; ``IGNORED`` when there is nothing."""
    return min(of, key=_ORDER.__getitem__, default=Progress.IGNORED)


def project(
    series: Sequence[Series],
    decisions: Iterable[Decision],
    jobs: Iterable[Job],
    deliveries: Iterable[DeliveryProgress],
) -> list[StudyProgress]:
    """The studies of ``series``, each where its first series is, with what belongs to them of the other rows."""
    of_job: dict[str, list[DeliveryProgress]] = {}
    for delivery in sorted(deliveries, key=attrgetter("destination")):
        of_job.setdefault(delivery.job_id, []).append(delivery)
    of_series: dict[tuple[str, str], list[JobProgress]] = {}
    for job in sorted(jobs, key=attrgetter("created_at")):
        job_progress = JobProgress(job=job, deliveries=tuple(of_job.get(job.id, ())))
        of_series.setdefault((job.study_instance_uid, job.series_instance_uid), []).append(job_progress)
    decided = {
        (decision.study_instance_uid, decision.series_instance_uid, decision.generation): decision
        for decision in decisions
    }
    studies: dict[str, list[SeriesProgress]] = {}
    for received in series:
        study, uid = received.study_instance_uid, received.series_instance_uid
        progress = SeriesProgress(
            series=received,
            decision=decided.get((study, uid, received.generation)),
            jobs=tuple(of_series.get((study, uid), ())),
        )
        studies.setdefault(study, []).append(progress)
    return [StudyProgress(study_instance_uid=uid, series=tuple(of_study)) for uid, of_study in studies.items()]
