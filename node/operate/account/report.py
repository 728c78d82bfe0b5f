"""The account: every image received is explained, and every pending delivery is counted.

Every series, job and delivery is in exactly one part, so that the parts add up to the total. Studies do not: one study
counts in each part that has something of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, time, timedelta
from functools import reduce
from operator import add
from typing import Any

from node.config import FORWARD
from node.ledger.account_rows import AccountSeries
from node.ledger.conflicts import ConflictRecord
from node.ledger.corrections import HalfCorrected, Outdated
from node.ledger.excluded_images import ExcludedImage
from node.ledger.held_series import Held
from node.ledger.jobs import Job
from node.ledger.pending_deliveries import DeliveryStatus, is_overdue
from node.ledger.progress import Progress, routing_of
from node.ledger.states import DecisionCause, JobState, ShadowCause, WithoutAnalysis
from node.operate.account.balance import Balance, Sum, add_up, balance
from node.operate.account.differences import Recipient, differences, result_kinds
from node.operate.account.refusals import Refusals
from node.operate.account.rows import AccountReader, AccountRows
from node.reasons import reason_text
from node.translation import gettext

_PARTS: dict[str, str] = {
    JobState.SCHEDULED: "waiting",
    JobState.IN_PROGRESS: "in progress",
    JobState.CANCELED: "cancelled",
}
"""Of states of jobs and of deliveries."""


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A result that the gate holds back."""

    study_instance_uid: str
    job_id: str
    sop_instance_uid: str
    description: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Account:
    """The answer of ``ainode account``."""

    day: date | None
    balance: Balance
    """What became of every study and every image."""
    sent: Sum
    """Images: stored, kept next to another one with the same UID, excluded, refused, cut off."""
    refused: tuple[Refusals, ...]
    """Images that were sent and not taken."""
    received: Sum
    """Series: routed, ignored with the reason, receiving."""
    jobs: Sum
    """By outcome when completed, else waiting, in progress, cancelled or held."""
    deliveries: Sum
    """Stored, confirmed, waiting, in progress, cancelled."""
    quarantined: tuple[Quarantined, ...]
    conflicts: tuple[ConflictRecord, ...]
    overdue: tuple[DeliveryStatus, ...]
    """Deliveries that are not done after ``alarm_after_hours``."""
    outdated: tuple[Outdated, ...]
    """Results sent for images received again with another identity."""
    half_corrected: tuple[HalfCorrected, ...]
    """Series of which only some images did; they wait for people."""
    discontinued: tuple[AccountSeries, ...]
    """Series that were ignored, or their analysis stopped, because their procedure step was discontinued."""
    held: tuple[Held, ...]
    """Series and jobs whose images contradict one another on whose they are; they wait for an operator."""
    excluded: tuple[ExcludedImage, ...]
    """Images that an operator has taken out of their series."""
    differences: tuple[str, ...]
    """What should not be, one sentence each; empty when everything is explained."""

    def __add__(self, other: Account) -> Account:
        """Of other studies as well."""
        changes: dict[str, Any] = {"balance": self.balance + other.balance}
        for name in ("sent", "received", "jobs", "deliveries"):
            changes[name] = getattr(self, name).plus(getattr(other, name))
        for field in fields(self):
            if isinstance(getattr(self, field.name), tuple):
                changes[field.name] = getattr(self, field.name) + getattr(other, field.name)
        return replace(self, **changes)


def account(reader: AccountReader, is_recipient: Recipient, day: date | None = None) -> Account:
    """Return the account of everything, or of a day: of the series whose first image came then (local time).

    Rows that belong to nothing are differences of every day.
    """
    portions = reader.portions(bounds(day) if day else None)
    return replace(account_of(portions, is_recipient), day=day)


def account_of(portions: Iterable[AccountRows], is_recipient: Recipient) -> Account:
    """Return the account of all portions; each study is in one of them."""
    return reduce(add, (_account(rows, is_recipient) for rows in portions))


def _account(chosen: AccountRows, is_recipient: Recipient) -> Account:
    studies = {job.id: job.study_instance_uid for job in chosen.jobs}
    kinds = result_kinds(chosen)
    sent_on = {d.job_id: d.instances for d in chosen.deliveries}
    return Account(
        day=None,
        balance=balance(chosen),
        sent=add_up(_sent(chosen)),
        refused=chosen.refused,
        received=add_up((_part_of_series(s), s.study_instance_uid, s.recorded) for s in chosen.series),
        jobs=add_up((_part_of_job(j), j.study_instance_uid, _objects(j, kinds, sent_on)) for j in chosen.jobs),
        deliveries=add_up(
            (_PARTS.get(d.state, d.state.lower()), studies.get(d.job_id, ""), d.instances) for d in chosen.deliveries
        ),
        quarantined=tuple(
            Quarantined(
                study_instance_uid=studies.get(result.job_id, ""),
                job_id=result.job_id,
                sop_instance_uid=result.sop_instance_uid,
                description=result.description,
                reason=result.quarantine,
            )
            for result in chosen.results
            if result.quarantine is not None
        ),
        conflicts=chosen.conflicts,
        overdue=tuple(d for d in chosen.deliveries if is_overdue(d)),
        outdated=chosen.outdated,
        half_corrected=chosen.half_corrected,
        discontinued=tuple(_in_words(s) for s in chosen.series if _is_discontinued(s)),
        held=tuple(replace(held, reason=reason_text(held.reason)) for held in chosen.held),
        excluded=chosen.excluded,
        differences=tuple(differences(chosen, is_recipient)),
    )


def _sent(rows: AccountRows) -> Iterator[tuple[str, str, int]]:
    """As far as the node can know: an image that was sent twice and is here counts once."""
    for series in rows.series:
        yield "stored", series.study_instance_uid, series.recorded
    for conflict in rows.conflicts:
        yield "stored in addition to another file", conflict.study_instance_uid, 1
    for image in rows.excluded:
        yield "stored and excluded", image.study_instance_uid, 1
    for refused in rows.refused:
        if refused.missing:
            yield "cut off" if refused.status is None else "refused", refused.study_instance_uid, refused.missing


def bounds(day: date) -> tuple[float, float]:
    """Begin and end of a local day in seconds since 1970 UTC; 23 to 25 hours apart."""
    start, end = (datetime.combine(d, time.min).astimezone().timestamp() for d in (day, day + timedelta(days=1)))
    return start, end


def _part_of_series(series: AccountSeries) -> str:
    routing = routing_of(series, series.decision)
    if series.decision is not None and routing in (Progress.IGNORED, Progress.HELD):
        return f"{gettext(str(routing))}: {reason_text(series.decision.reason)}"
    return str(routing)


def _in_words(series: AccountSeries) -> AccountSeries:
    decisions = {
        at: replace(decision, reason=reason_text(decision.reason)) for at, decision in series.decisions.items()
    }
    return replace(series, decisions=decisions)


def _is_discontinued(series: AccountSeries) -> bool:
    return series.decision is not None and series.decision.cause == DecisionCause.DISCONTINUED


def _part_of_job(job: Job) -> str:
    if job.shadow == ShadowCause.TRIAL:
        return "tried in shadow"
    if job.shadow == ShadowCause.NOT_ACCEPTED and job.state == JobState.COMPLETED:
        return "kept in shadow, version not accepted"
    if job.state == JobState.COMPLETED:
        return job.outcome or "without outcome"
    if job.state == JobState.CANCELED and job.outcome == WithoutAnalysis.HELD:
        return str(WithoutAnalysis.HELD)
    return _PARTS[job.state]


def _objects(job: Job, kinds: dict[str, list[str]], sent_on: dict[str, int]) -> int:
    return sent_on.get(job.id, 0) if job.pipeline == FORWARD else len(kinds.get(job.id, ()))
