"""What retention will purge and when, by day, and the studies that it holds back, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from node.ledger.planned_purges import StoredStudy
from node.operate.explain import clock
from node.translation import gettext, ngettext

_DAY_SECONDS = 86400.0


@dataclass(frozen=True, kw_only=True)
class PurgeDay:
    """What is purged on one day, if nothing of it is received or retried before."""

    day: date
    """Local; today for everything that is due."""
    studies: int
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class PlannedPurge:
    """One study: when it is purged, or what holds it back."""

    study_instance_uid: str
    at: float
    """Not before this time, in seconds since 1970 UTC."""
    size: int
    """Bytes."""
    held_by: tuple[str, ...]
    """What must end first; empty: nothing."""


@dataclass(frozen=True, kw_only=True)
class PurgePlan:
    """The plan for all studies."""

    days: tuple[PurgeDay, ...]
    """From the first on; without studies that are held back."""
    due: tuple[PlannedPurge, ...]
    """In the order in which they are purged."""
    held: tuple[PlannedPurge, ...]
    """Held back although, or until, they are old enough; the oldest first."""


def purge_plan(studies: Iterable[StoredStudy], days: float, at: float) -> PurgePlan:
    """Return what ``[retention] days`` means for these studies at a time (seconds since 1970 UTC)."""
    planned = [
        PlannedPurge(
            study_instance_uid=one.study_instance_uid,
            at=one.last_at + days * _DAY_SECONDS,
            size=one.size,
            held_by=_reasons(one),
        )
        for one in studies
    ]
    due = sorted((one for one in planned if not one.held_by), key=lambda one: one.at)
    by_day: dict[date, list[PlannedPurge]] = {}
    for one in due:
        by_day.setdefault(_day(max(one.at, at)), []).append(one)
    return PurgePlan(
        days=tuple(PurgeDay(day=day, studies=len(of), size=sum(one.size for one in of)) for day, of in by_day.items()),
        due=tuple(due),
        held=tuple(sorted((one for one in planned if one.held_by), key=lambda one: one.at)),
    )


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).astimezone().date()


def _reasons(one: StoredStudy) -> tuple[str, ...]:
    reasons = [gettext("{series} series not complete", series=one.receiving)] if one.receiving else []
    if one.jobs:
        to = (
            gettext(", deliveries to {destinations} pending", destinations=", ".join(one.destinations))
            if one.destinations
            else ""
        )
        reasons.append(ngettext("{number} job not ended{to}", "{number} jobs not ended{to}", len(one.jobs), to=to))
    return tuple(reasons)


def describe(plan: PurgePlan, days: float, shown: int) -> str:
    """The plan in plain words, with the first ``shown`` studies of each list."""
    lines = [f"Studies are purged {days:g} days after their last event; nothing undelivered is purged."]
    lines += [f"{one.day}  {one.studies} studies, {one.size / 2**20:.1f} MiB" for one in plan.days]
    lines += _listed("Next", plan.due, shown)
    return "\n".join(lines + _listed("Held back", plan.held, shown))


def _listed(title: str, studies: Sequence[PlannedPurge], shown: int) -> list[str]:
    if not studies:
        return [f"{title}: none"]
    lines = [f"{title}: {len(studies)} studies, {sum(one.size for one in studies) / 2**20:.1f} MiB"]
    for one in studies[:shown]:
        why = f": {'; '.join(one.held_by)}" if one.held_by else ""
        lines.append(f"  {clock(one.at)}  {one.study_instance_uid}, {one.size / 2**20:.1f} MiB{why}")
    return lines + ([f"  and {len(studies) - shown} more"] if len(studies) > shown else [])
