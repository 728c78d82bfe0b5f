"""How long retention keeps images and results, and what is due. Pure functions of the configuration and the ledger.

Times count from the last event of the study. The longest that applies wins. Nothing of a study is due while anything of
it is received, held, analysed or pending for a destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from node.config import Config
from node.ledger.planned_purges import StoredResults, StoredSeries, StoredStudy
from node.ledger.study_sums import StudySums
from node.translation import gettext, ngettext

DAY_SECONDS = 86400.0
LOCKED = 2
"""Times as long as others a study is kept of which a subscriber has locked a workitem (Deletion Lock, PS3.4 CC.2.3)."""


class PurgeKind(StrEnum):
    """What is purged at once."""

    IMAGES = "images"
    """Of one series; its results may stay."""
    RESULTS = "results"
    """Of one job."""
    STUDY = "study"
    """Whatever is left of it, rows and log included."""


@dataclass(frozen=True, kw_only=True)
class PlannedPurge:
    """One thing that retention purges."""

    study_instance_uid: str
    kind: PurgeKind
    at: float
    """Not before this time, in seconds since 1970 UTC."""
    size: int
    """Bytes."""
    why: str
    """The key of the configuration that decides."""
    series_instance_uid: str = ""
    """Of images and results."""
    job_id: str = ""
    """Of results."""
    held_by: tuple[str, ...] = ()
    """What must end first; empty: nothing."""


@dataclass(frozen=True, kw_only=True)
class _Time:
    days: float
    why: str


class RetentionRules:
    """What the configuration says on how long what is kept."""

    def __init__(self, config: Config) -> None:
        self._default = _Time(days=config.retention.days, why="[retention] days")
        self._unmatched = self._time(config.retention.unmatched_days, "[retention] unmatched_days")
        self._rules = {rule.name: self._time(rule.keep_days, f"rule {rule.name!r}: keep_days") for rule in config.rules}
        self._destinations = {
            name: self._time(to.keep_days, f"[destinations.{name}] keep_days")
            for name, to in config.destinations.items()
        }
        self.quotas: Mapping[str, float] = {
            name: table.quota_gib * 2**30 for name, table in config.pipelines.items() if table.quota_gib
        }
        """Bytes by pipeline."""

    @property
    def has_parts(self) -> bool:
        """Whether parts of a study may be purged before the rest: several times are configured, or a quota."""
        return bool(self.quotas) or self.shortest_days != self.longest_days

    @property
    def shortest_days(self) -> float:
        """After which anything may be due."""
        return min(time.days for time in self._times())

    @property
    def longest_days(self) -> float:
        """After which everything is due that nothing holds back."""
        return max(time.days for time in self._times())

    def _time(self, days: Literal["default"] | float, why: str) -> _Time:
        return self._default if days == "default" else _Time(days=days, why=why)

    @property
    def days(self) -> dict[str, float]:
        """What is configured: days by key."""
        return {time.why: time.days for time in self._times()}

    def _times(self) -> Iterable[_Time]:
        return (self._default, self._unmatched, *self._rules.values(), *self._destinations.values())

    def _images(self, of: StoredSeries) -> _Time:
        matched = [self._rules.get(name, self._default) for name in of.rules]
        return max(matched, key=lambda time: time.days, default=self._unmatched)

    def _results(self, of: StoredResults, images: _Time) -> _Time:
        sent = [self._destinations.get(name, self._default) for name in of.destinations]
        return max([*(sent or [self._default]), images], key=lambda time: time.days)

    def planned(self, study: StoredStudy) -> list[PlannedPurge]:
        """Everything of one study, in the order in which it is purged; the study itself is the last.

        What would go with the study anyway is part of it. A study that is not settled is not purged in parts.
        """
        uid, last = study.study_instance_uid, study.last_at
        images = {series.series_instance_uid: self._images(series) for series in study.series}
        parts = [
            (images[series.series_instance_uid], PurgeKind.IMAGES, series.size, series.series_instance_uid, "")
            for series in study.series
            if series.images and not series.is_disputed
        ]
        parts += [
            (
                self._results(result, images.get(result.series_instance_uid, self._default)),
                PurgeKind.RESULTS,
                result.size,
                result.series_instance_uid,
                result.job_id,
            )
            for result in study.results
            if result.objects
        ]
        end = max([self._default, *(time for time, *_ in parts)], key=lambda time: time.days)
        planned = [
            PlannedPurge(
                study_instance_uid=uid,
                kind=kind,
                at=last + time.days * DAY_SECONDS,
                size=size,
                why=time.why,
                series_instance_uid=series,
                job_id=job,
            )
            for time, kind, size, series, job in sorted(parts, key=lambda part: part[0].days)
            if time.days < end.days and study.is_settled
        ]
        rest = PlannedPurge(
            study_instance_uid=uid,
            kind=PurgeKind.STUDY,
            at=last + end.days * DAY_SECONDS * (LOCKED if study.is_locked else 1),
            size=study.size - sum(purge.size for purge in planned),
            why=_why(end, study),
            held_by=held_by(study),
        )
        return [*planned, rest]

    def due(self, study: StoredStudy, at: float) -> list[PlannedPurge]:
        """What of one study is to be purged at a time; the study alone when all of it is."""
        due = [purge for purge in self.planned(study) if purge.at < at and not purge.held_by]
        return due[-1:] if due and due[-1].kind == PurgeKind.STUDY else due

    def planned_whole(self, study: StudySums) -> PlannedPurge:
        """The same as ``planned`` where no study has parts."""
        return PlannedPurge(
            study_instance_uid=study.study_instance_uid,
            kind=PurgeKind.STUDY,
            at=study.last_at + self._default.days * DAY_SECONDS * (LOCKED if study.is_locked else 1),
            size=study.size,
            why=_why(self._default, study),
            held_by=held_by(study) if study.receiving or study.held or study.active or study.pending else (),
        )


def _why(time: _Time, study: StoredStudy | StudySums) -> str:
    return f"{time.why}, twice as long by a deletion lock" if study.is_locked else time.why


def held_by(study: StoredStudy | StudySums) -> tuple[str, ...]:
    """What must end before anything of a study is purged, in words."""
    reasons = []
    if study.receiving:
        reasons.append(gettext("{series} series not complete", series=study.receiving))
    if study.held:
        reasons.append(gettext("{series} series held until an operator decides", series=study.held))
    to = (
        gettext(", deliveries to {destinations} pending", destinations=", ".join(study.pending))
        if study.pending
        else ""
    )
    if study.active or study.pending:
        reasons.append(ngettext("{number} job not ended{to}", "{number} jobs not ended{to}", study.active, to=to))
    return tuple(reasons)
