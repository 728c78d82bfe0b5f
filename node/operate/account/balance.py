"""What became of every study and of every image: received = routed + ignored, routed = processed + failed + ...

Each series is in one part of each sum; a study is in the first of the parts that its series are in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from node.config import FORWARD
from node.ledger import ACTIVE, DecisionOutcome, JobStage, JobState
from node.ledger.jobs import Job
from node.ledger.pending_deliveries import DeliveryStatus
from node.operate.account.rows import AccountRows, ReceivedSeries

_RECEIVED = (
    DecisionOutcome.ROUTED,
    "receiving",
    DecisionOutcome.WAITING,
    "without decision",
    DecisionOutcome.HELD,
    DecisionOutcome.IGNORED,
)
_ANALYSED = ("failed", "cancelled", "processed", "not applicable", "sent on as they are", "in work")
_DELIVERED = ("cancelled", "waiting", "stored, proof awaited", "stored, no proof wanted", "confirmed", "kept here only")


@dataclass(frozen=True, kw_only=True)
class Count:
    """How much a total or a part of it is."""

    studies: int
    entries: int
    """Series, jobs or deliveries."""
    instances: int
    """Images received; objects made; objects owed."""


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A total and its parts, by name."""

    total: Count
    parts: dict[str, Count]


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Three sums of series and their images; the total of each is a part, or all but one part, of the one before."""

    received: Sum
    """Routed, ignored, receiving."""
    analysed: Sum
    """Of what was routed: processed, not applicable, failed, cancelled, in work, sent on without analysis."""
    delivered: Sum
    """Of what was routed and is not in work any more: confirmed, stored, waiting, cancelled, kept here only."""


def balance(rows: AccountRows) -> Balance:
    """The sums of all series of ``rows``, each as its latest generation went."""
    jobs: dict[tuple[str, str, int], list[Job]] = {}
    for job in rows.jobs:
        jobs.setdefault((job.study_instance_uid, job.series_instance_uid, job.generation), []).append(job)
    owed: dict[str, list[DeliveryStatus]] = {}
    for one in rows.deliveries:
        owed.setdefault(one.job_id, []).append(one)
    received: list[tuple[str, ReceivedSeries]] = []
    analysed: list[tuple[str, ReceivedSeries]] = []
    delivered: list[tuple[str, ReceivedSeries]] = []
    for series in rows.series:
        received.append((place_of(series), series))
        if received[-1][0] != "routed":
            continue
        own = jobs.get((series.study_instance_uid, series.series_instance_uid, series.generation), [])
        analysed.append((_first(_ANALYSED, map(_analysis, own)), series))
        if analysed[-1][0] != "in work":
            states = [_delivery(one) for job in own for one in owed.get(job.id, [])]
            delivered.append((_first(_DELIVERED, states), series))
    return Balance(
        received=_by_study(_RECEIVED, received),
        analysed=_by_study(_ANALYSED, analysed),
        delivered=_by_study(_DELIVERED, delivered),
    )


def add_up(entries: Iterable[tuple[str, str, int]]) -> Sum:
    """Add up ``(part, StudyInstanceUID, instances)``; a study counts in each part that has something of it."""
    parts: dict[str, list[tuple[str, int]]] = {}
    for part, study, instances in entries:
        parts.setdefault(part, []).append((study, instances))
    everything = [entry for part in parts.values() for entry in part]
    return Sum(total=_count(everything), parts={part: _count(parts[part]) for part in sorted(parts)})


def tell_balance(of: Balance) -> Iterator[str]:
    """Two equations for each sum: by study, by image."""
    for name, unit in (("studies", "studies"), ("instances", "images")):
        for what, one in (("received", of.received), ("routed", of.analysed), ("to deliver", of.delivered)):
            yield tell_equation(unit, what, one, name)


def tell_equation(unit: str, what: str, of: Sum, name: str) -> str:
    """A total and its parts; ``name``: the attribute of ``Count`` that is told."""
    parts = " + ".join(f"{getattr(count, name)} {part}" for part, count in of.parts.items())
    return f"{unit:8} {getattr(of.total, name)} {what} = {parts or '0'}"


def place_of(series: ReceivedSeries) -> str:
    """The part of what was received that a series is in."""
    ruling = series.rulings.get(series.generation)
    if series.state != "COMPLETE":
        return "receiving"
    return "without decision" if ruling is None else ruling.outcome


def _analysis(job: Job) -> str:
    if job.state == JobState.CANCELED:
        return "cancelled"
    if job.state in ACTIVE and job.stage != JobStage.DELIVER:
        return "in work"
    if job.pipeline == FORWARD:
        return "sent on as they are"
    return job.outcome if job.outcome in ("not applicable", "failed") else "processed"


def _delivery(one: DeliveryStatus) -> str:
    if one.state in ("CANCELED", "CONFIRMED"):
        return {"CANCELED": "cancelled", "CONFIRMED": "confirmed"}[one.state]
    if one.state == "STORED":
        return "stored, proof awaited" if one.ended_at is None else "stored, no proof wanted"
    return "waiting"


def _first(order: Sequence[str], found: Iterable[str]) -> str:
    """The one that comes first in the order; the last of all when nothing was found."""
    return min(found, key=order.index, default=order[-1])


def _by_study(order: Sequence[str], entries: Sequence[tuple[str, ReceivedSeries]]) -> Sum:
    places: dict[str, set[str]] = {}
    for part, series in entries:
        places.setdefault(series.study_instance_uid, set()).add(part)
    of_study = {study: _first(order, found) for study, found in places.items()}
    total = add_up((part, series.study_instance_uid, series.instances) for part, series in entries)
    return Sum(
        total=total.total,
        parts={
            part: Count(
                studies=sum(one == part for one in of_study.values()),
                entries=total.parts[part].entries,
                instances=total.parts[part].instances,
            )
            for part in order
            if part in total.parts
        },
    )


def _count(entries: Sequence[tuple[str, int]]) -> Count:
    return Count(
        studies=len({study for study, _ in entries}), entries=len(entries), instances=sum(n for _, n in entries)
    )
