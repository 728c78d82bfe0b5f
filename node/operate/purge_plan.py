"""What retention will purge and when, by day, and the studies that it holds back, with the reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import sqlalchemy as sa

from node.ledger.planned_purges import StoredStudy, all_stored_studies
from node.ledger.study_sums import all_study_sums
from node.operate.explain import clock
from node.operate.result_quota import over_quota, quota_key
from node.operate.retention_rules import PlannedPurge, PurgeKind, RetentionRules
from node.translation import decimal, gettext, marked

QUARTER_SECONDS = 900
"""Days begin at one of these, in every time zone."""


@dataclass(frozen=True, kw_only=True)
class PurgeDay:
    """What is purged on one day, if nothing of it is received or retried before."""

    day: date
    """Local; today for everything that is due."""
    studies: int
    """Of which the last is purged."""
    images: int
    """Series whose images are purged before their study."""
    results: int
    """Jobs whose results are purged before their study."""
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class QuotaUse:
    """How much of its quota a pipeline occupies."""

    pipeline: str
    size: int
    """Bytes."""
    quota: int
    """Bytes."""
    purges: int
    """Bytes that are purged now."""


@dataclass(frozen=True, kw_only=True)
class PurgePlan:
    """The plan for all studies."""

    days: tuple[PurgeDay, ...]
    """From the first on; without studies that are held back."""
    due: tuple[PlannedPurge, ...]
    """In the order in which they are purged."""
    held: tuple[PlannedPurge, ...]
    """Studies that are held back although, or until, they are old enough; the oldest first."""
    quotas: tuple[QuotaUse, ...] = ()
    """Of each pipeline that has one."""


def current_plan(connection: sa.Connection, rules: RetentionRules, at: float) -> PurgePlan:
    """Return the plan for everything in the ledger; where no study has parts, without reading any as a whole."""
    if rules.has_parts:
        return purge_plan(all_stored_studies(connection), rules, at)
    return _plan([rules.planned_whole(study) for study in all_study_sums(connection)], at)


def purge_plan(studies: Iterable[StoredStudy], rules: RetentionRules, at: float) -> PurgePlan:
    """Return what the configuration means for these studies at a time (seconds since 1970 UTC)."""
    studies = list(studies)
    over = over_quota(rules.quotas, studies, at)
    gone = {purge.job_id for purge in over}
    planned = [*over, *(purge for study in studies for purge in rules.planned(_without(study, gone)))]
    return replace(
        _plan(planned, at),
        quotas=tuple(
            QuotaUse(
                pipeline=name,
                size=sum(result.size for study in studies for result in study.results if result.pipeline == name),
                quota=int(quota),
                purges=sum(purge.size for purge in over if purge.why == quota_key(name)),
            )
            for name, quota in rules.quotas.items()
        ),
    )


def _plan(planned: Iterable[PlannedPurge], at: float) -> PurgePlan:
    due, held = list[PlannedPurge](), list[PlannedPurge]()
    for purge in sorted(planned, key=lambda purge: purge.at):
        (held if purge.held_by else due).append(purge)
    by_quarter: dict[int, list[PlannedPurge]] = {}
    for purge in due:
        by_quarter.setdefault(int(max(purge.at, at) // QUARTER_SECONDS), []).append(purge)
    by_day: dict[date, list[PlannedPurge]] = {}
    for quarter, of in by_quarter.items():
        by_day.setdefault(_day(quarter * QUARTER_SECONDS), []).extend(of)
    return PurgePlan(days=tuple(_summed(day, of) for day, of in by_day.items()), due=tuple(due), held=tuple(held))


def _without(study: StoredStudy, jobs: Collection[str]) -> StoredStudy:
    """Return a study without the results of some jobs."""
    results = (replace(result, size=0, objects=0) if result.job_id in jobs else result for result in study.results)
    return replace(study, results=tuple(results))


def _summed(day: date, of: Sequence[PlannedPurge]) -> PurgeDay:
    kinds = [purge.kind for purge in of]
    return PurgeDay(
        day=day,
        studies=kinds.count(PurgeKind.STUDY),
        images=kinds.count(PurgeKind.IMAGES),
        results=kinds.count(PurgeKind.RESULTS),
        size=sum(purge.size for purge in of),
    )


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).astimezone().date()


def describe_purge(purge: PlannedPurge, series: str = "") -> str:
    """Return what is purged, in words; ``series``: the name of its series in place of the UID."""
    match purge.kind:
        case PurgeKind.IMAGES:
            return gettext("images of series {series}", series=series or purge.series_instance_uid)
        case PurgeKind.RESULTS:
            return gettext("results of job {job}", job=purge.job_id)
    return gettext("the study, with all that is left of it")


def describe(plan: PurgePlan, rules: RetentionRules, shown: int) -> str:
    """The plan in plain words, with the first ``shown`` entries of each list."""
    configured = ", ".join(f"{key} = {days:g}" for key, days in rules.days.items())
    lines = [
        gettext("Nothing undelivered is purged. Days count from the last event of a study: {days}.", days=configured)
    ]
    lines += [f"{day.day}  {_day_in_words(day)}, {_mebibytes(day.size)}" for day in plan.days]
    for quota in plan.quotas:
        used = gettext(
            "Results of {pipeline}: {used} of {quota} GiB",
            pipeline=quota.pipeline,
            used=decimal(f"{quota.size / 2**30:.2f}"),
            quota=decimal(f"{quota.quota / 2**30:g}"),
        )
        purges = gettext("; {size} are purged within the hour", size=_mebibytes(quota.purges)) if quota.purges else ""
        lines.append(f"{used}{purges}")
    due = _listed(gettext("Next"), plan.due, shown)
    return "\n".join([*lines, *due, *_listed(gettext("Held back"), plan.held, shown)])


def _day_in_words(day: PurgeDay) -> str:
    parts = (
        (day.studies, marked("{number} studies")),
        (day.images, marked("{number} series (images)")),
        (day.results, marked("{number} jobs (results)")),
    )
    return ", ".join(gettext(text, number=number) for number, text in parts if number)


def _mebibytes(size: int) -> str:
    return decimal(f"{size / 2**20:.1f} MiB")


def _listed(title: str, planned: Sequence[PlannedPurge], shown: int) -> Iterator[str]:
    if not planned:
        yield f"{title}: {gettext('none')}"
        return
    studies = len({purge.study_instance_uid for purge in planned})
    size = _mebibytes(sum(purge.size for purge in planned))
    yield f"{title}: {gettext('{number} studies', number=studies)}, {size}"
    for purge in planned[:shown]:
        why = "; ".join(purge.held_by) or purge.why
        what = describe_purge(purge)
        yield f"  {clock(purge.at)}  {purge.study_instance_uid}: {what}, {_mebibytes(purge.size)}: {why}"
    if len(planned) > shown:
        yield "  " + gettext("and {number} more", number=len(planned) - shown)
