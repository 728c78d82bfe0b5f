"""The balance of studies and images: received = routed + ignored, routed = processed + failed + ...

Each series is in one part of each sum; a study is in the first of the parts that its series are in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.config import FORWARD
from node.ledger.progress import IN_WORK, DeliveryStep, JobProgress, Progress, project
from node.operate.account.rows import AccountRows
from node.outcome import Outcome

_RECEIVED = (
    Progress.ROUTED,
    Progress.RECEIVING,
    Progress.WAITING,
    Progress.UNDECIDED,
    Progress.HELD,
    Progress.IGNORED,
)
_IN_WORK = "in work"
_ANALYSED = (
    Progress.FAILED,
    Progress.CANCELLED,
    Progress.HELD,
    "processed",
    "not applicable",
    "sent on as they are",
    _IN_WORK,
)
_DELIVERED = (*DeliveryStep, "kept here only")


@dataclass(frozen=True, kw_only=True)
class Count:
    """Number of studies and images of a total or a part."""

    studies: int
    entries: int
    """Series, jobs or deliveries."""
    instances: int
    """Images received; objects made; objects to deliver."""

    def __add__(self, other: Count) -> Count:
        """Of other studies as well."""
        return Count(
            studies=self.studies + other.studies,
            entries=self.entries + other.entries,
            instances=self.instances + other.instances,
        )


NOTHING = Count(studies=0, entries=0, instances=0)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A total and its parts, by name."""

    total: Count
    parts: dict[str, Count]

    def plus(self, other: Sum, order: Sequence[str] = ()) -> Sum:
        """Return the sum of these and of other studies; parts in an order, others by name."""
        places = {name: place for place, name in enumerate(order)}
        names = sorted({*self.parts, *other.parts}, key=lambda name: (places.get(name, len(order)), name))
        parts = {name: self.parts.get(name, NOTHING) + other.parts.get(name, NOTHING) for name in names}
        return Sum(total=self.total + other.total, parts=parts)


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Three sums of series and their images; the total of each is a part, or all but one part, of the one before."""

    received: Sum
    """Routed, ignored, receiving."""
    analysed: Sum
    """Of what was routed: processed, not applicable, failed, cancelled, held, in work, sent on without analysis."""
    delivered: Sum
    """Of what was routed and is not in work any more: confirmed, stored, waiting, cancelled, kept here only."""

    def __add__(self, other: Balance) -> Balance:
        """Of other studies as well."""
        return Balance(
            received=self.received.plus(other.received, _RECEIVED),
            analysed=self.analysed.plus(other.analysed, _ANALYSED),
            delivered=self.delivered.plus(other.delivered, _DELIVERED),
        )


def balance(rows: AccountRows) -> Balance:
    """The sums of all series of ``rows``."""
    decisions = [decision for series in rows.series for decision in series.decisions.values()]
    recorded = {(series.study_instance_uid, series.series_instance_uid): series.recorded for series in rows.series}
    received, analysed, delivered = [], [], []
    for study in project(rows.series, decisions, rows.jobs, rows.deliveries):
        for progress in study.series:
            uid = study.study_instance_uid
            images = recorded[uid, progress.series.series_instance_uid]
            routing = progress.routing
            received.append((str(routing), uid, images))
            if routing != Progress.ROUTED:
                continue
            current = progress.current_jobs
            analysis = _analysis_of(current)
            analysed.append((analysis, uid, images))
            if analysis != _IN_WORK:
                delivered.append((_delivery_of(current), uid, images))
    return Balance(
        received=_by_study(_RECEIVED, received),
        analysed=_by_study(_ANALYSED, analysed),
        delivered=_by_study(_DELIVERED, delivered),
    )


def add_up(entries: Iterable[tuple[str, str, int]]) -> Sum:
    """Add up ``(part, StudyInstanceUID, instances)``; a study counts in each part that has something of it."""
    studies: dict[str, set[str]] = {}
    numbers, images = Counter[str](), Counter[str]()
    for part, study, instances in entries:
        studies.setdefault(part, set()).add(study)
        numbers[part] += 1
        images[part] += instances
    parts = {
        part: Count(studies=len(studies[part]), entries=numbers[part], instances=images[part])
        for part in sorted(studies)
    }
    every = set().union(*studies.values())
    return Sum(total=Count(studies=len(every), entries=numbers.total(), instances=images.total()), parts=parts)


def _analysis_of(current: Sequence[JobProgress]) -> str:
    """Of several jobs what needs most attention; a series is in work as long as any of them is."""
    parts = {_analysis(job) for job in current}
    return _IN_WORK if _IN_WORK in parts else _first(_ANALYSED, parts)


def _analysis(job_progress: JobProgress) -> str:
    progress = job_progress.progress
    if progress in IN_WORK:
        return _IN_WORK
    if progress in (Progress.CANCELLED, Progress.HELD):
        return str(progress)
    if job_progress.job.pipeline == FORWARD:
        return "sent on as they are"
    return (
        job_progress.job.outcome
        if job_progress.job.outcome in (Outcome.NOT_APPLICABLE, Outcome.FAILED)
        else "processed"
    )


def _delivery_of(current: Sequence[JobProgress]) -> str:
    return _first(_DELIVERED, (part for job in current for part in _deliveries(job)))


def _deliveries(job_progress: JobProgress) -> Iterable[str]:
    if not job_progress.deliveries and job_progress.progress in (Progress.CANCELLED, Progress.HELD):
        return (DeliveryStep.CANCELLED,)
    return [delivery.step for delivery in job_progress.deliveries]


def _first(order: Sequence[str], parts: Iterable[str]) -> str:
    """The part that comes first in the order; the last of all when there is none."""
    return min(parts, key=order.index, default=order[-1])


def _by_study(order: Sequence[str], entries: Sequence[tuple[str, str, int]]) -> Sum:
    parts: dict[str, set[str]] = {}
    for part, study, _ in entries:
        parts.setdefault(study, set()).add(part)
    studies = Counter(_first(order, of_study) for of_study in parts.values())
    total = add_up(entries)
    return Sum(
        total=total.total,
        parts={
            part: Count(
                studies=studies[part],
                entries=total.parts[part].entries,
                instances=total.parts[part].instances,
            )
            for part in order
            if part in total.parts
        },
    )
