"""The nothing-lost account: what came in equals what is explained, and what is owed equals what was delivered.

Every series, job and delivery is in exactly one part, so that the parts add up to the total. Studies do not: one study
counts in each part that has something of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from node.config import FORWARD
from node.ledger import DecisionCause, DecisionOutcome, JobStage, JobState
from node.ledger.conflicts import Outdated
from node.ledger.corrections import HalfCorrected
from node.ledger.held_series import Held
from node.ledger.jobs import Job
from node.ledger.pending_deliveries import DeliveryStatus, is_overdue
from node.operate.account.balance import Balance, Sum, add_up, balance, place_of, tell_balance, tell_equation
from node.operate.account.refusals import Refusals, tell_refusals
from node.operate.account.rows import AccountRows, Conflict, ReceivedSeries

Owed = Callable[[str, str, Collection[str]], bool]
"""Whether a destination gets anything of an outcome, of which these kinds were made: ``Config.is_owed``."""
_PARTS: dict[str, str] = {
    JobState.SCHEDULED: "waiting",
    JobState.IN_PROGRESS: "in progress",
    JobState.CANCELED: "cancelled",
}


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
    """Images: stored, kept beside another one under the same UID, refused, cut off."""
    refused: tuple[Refusals, ...]
    """Images that were sent and not taken."""
    received: Sum
    """Series: routed, ignored with the reason, receiving."""
    jobs: Sum
    """By outcome when completed, else waiting, in progress or cancelled."""
    deliveries: Sum
    """Stored, confirmed, waiting, in progress, cancelled."""
    quarantined: tuple[Quarantined, ...]
    conflicts: tuple[Conflict, ...]
    overdue: tuple[DeliveryStatus, ...]
    """Deliveries that are not done after ``alarm_after_hours``."""
    outdated: tuple[Outdated, ...]
    """Results sent for images that came again with another identity."""
    half_corrected: tuple[HalfCorrected, ...]
    """Series of which only some images did; they wait for people."""
    discontinued: tuple[ReceivedSeries, ...]
    """Series that were ignored, or their analysis stopped, because their procedure step was discontinued."""
    held: tuple[Held, ...]
    """Series and jobs whose images contradict one another on whose they are; they wait for an operator."""
    differences: tuple[str, ...]
    """What should not be, one sentence each; empty when everything is explained."""


def account(rows: AccountRows, is_owed: Owed, day: date | None = None) -> Account:
    """Balance the books; of a day: those of the series whose first image came then (local time).

    Rows that belong to nothing are differences of every day.
    """
    chosen = rows.between(*bounds(day)) if day else rows
    studies = {job.id: job.study_instance_uid for job in rows.jobs}
    made: dict[str, list[str]] = {}
    for one in chosen.results:
        if one.quarantine is None:
            made.setdefault(one.job_id, []).append(one.kind or "")
    sent_on = {d.job_id: d.instances for d in chosen.deliveries}
    return Account(
        day=day,
        balance=balance(chosen),
        sent=add_up(_sent(chosen)),
        refused=chosen.refused,
        received=add_up((_part_of_series(s), s.study_instance_uid, s.instances) for s in chosen.series),
        jobs=add_up((_part_of_job(j), j.study_instance_uid, _objects(j, made, sent_on)) for j in chosen.jobs),
        deliveries=add_up(
            (_PARTS.get(d.state, d.state.lower()), studies.get(d.job_id, ""), d.instances) for d in chosen.deliveries
        ),
        quarantined=tuple(
            Quarantined(
                study_instance_uid=studies.get(one.job_id, ""),
                job_id=one.job_id,
                sop_instance_uid=one.sop_instance_uid,
                description=one.description,
                reason=one.quarantine,
            )
            for one in chosen.results
            if one.quarantine is not None
        ),
        conflicts=chosen.conflicts,
        overdue=tuple(d for d in chosen.deliveries if is_overdue(d)),
        outdated=chosen.outdated,
        half_corrected=chosen.half_corrected,
        discontinued=tuple(s for s in chosen.series if _cause(s) == DecisionCause.DISCONTINUED),
        held=chosen.held,
        differences=(
            *_strays(rows),
            *_of_series(chosen),
            *_of_jobs(chosen, made, is_owed),
            *_stuck(chosen),
            *_of_deliveries(chosen),
        ),
    )


def _sent(rows: AccountRows) -> Iterator[tuple[str, str, int]]:
    """As far as the node can know: an image that was sent twice and is here counts once."""
    for series in rows.series:
        yield "stored", series.study_instance_uid, series.instances
    for one in rows.conflicts:
        yield "kept beside another one", one.study_instance_uid, 1
    for refused in rows.refused:
        if refused.missing:
            yield "cut off" if refused.status is None else "refused", refused.study_instance_uid, refused.missing


def bounds(day: date) -> tuple[float, float]:
    """Begin and end of a local day in seconds since 1970 UTC; 23 to 25 hours apart."""
    start, end = (datetime.combine(d, time.min).astimezone().timestamp() for d in (day, day + timedelta(days=1)))
    return start, end


def _part_of_series(one: ReceivedSeries) -> str:
    place = place_of(one)
    return (
        f"{place}: {one.rulings[one.generation].reason}"
        if place in (DecisionOutcome.IGNORED, DecisionOutcome.HELD)
        else place
    )


def _cause(one: ReceivedSeries) -> str:
    ruling = one.rulings.get(one.generation)
    return ruling.cause if ruling is not None else ""


def _part_of_job(job: Job) -> str:
    return job.outcome or "without outcome" if job.state == JobState.COMPLETED else _PARTS[job.state]


def _objects(job: Job, made: dict[str, list[str]], sent_on: dict[str, int]) -> int:
    return sent_on.get(job.id, 0) if job.pipeline == FORWARD else len(made.get(job.id, ()))


def _strays(rows: AccountRows) -> Iterator[str]:
    series = {(s.study_instance_uid, s.series_instance_uid) for s in rows.series}
    jobs = {job.id for job in rows.jobs}
    if rows.rowless:
        yield f"{rows.rowless} received images have no row; the receiver's log says why"
    for stray in rows.strays:
        yield f"{stray.rows} {stray.of}: there is no row of these"
    for job in rows.jobs:
        if (job.study_instance_uid, job.series_instance_uid) not in series:
            yield f"job {job.id}: its series {job.series_instance_uid} has no row"
    for one in rows.results:
        if one.job_id not in jobs:
            yield f"result {one.sop_instance_uid}: its job {one.job_id} has no row"
    for delivery in rows.deliveries:
        if delivery.job_id not in jobs:
            yield f"delivery to {delivery.destination}: its job {delivery.job_id} has no row"


def _of_series(rows: AccountRows) -> Iterator[str]:
    jobs = {(j.study_instance_uid, j.series_instance_uid, j.generation, j.pipeline) for j in rows.jobs}
    for one in rows.series:
        name = f"series {one.series_instance_uid} of study {one.study_instance_uid}"
        if one.instances != one.counted:
            yield f"{name}: counts {one.counted} images, but {one.instances} have a row"
        for generation in range(1, one.generation + 1):
            ruling = one.rulings.get(generation)
            if ruling is None:
                yield f"{name}: generation {generation} was complete, but there is no decision on it"
                continue
            for pipeline in ruling.pipelines:
                if (one.study_instance_uid, one.series_instance_uid, generation, pipeline) not in jobs:
                    yield f"{name}: generation {generation} was routed to {pipeline!r}, but there is no job"


def _of_jobs(rows: AccountRows, made: dict[str, list[str]], is_owed: Owed) -> Iterator[str]:
    deliveries: dict[str, dict[str, str]] = {}
    for delivery in rows.deliveries:
        deliveries.setdefault(delivery.job_id, {})[delivery.destination] = delivery.state
    for job in rows.jobs:
        name = f"job {job.id} of study {job.study_instance_uid}"
        if job.state == JobState.CANCELED or job.stage != JobStage.DELIVER:
            continue
        if job.outcome is None:
            yield f"{name}: is encoded, but has no outcome"
            continue
        if not made.get(job.id) and job.pipeline != FORWARD:
            yield f"{name}: is encoded, but has no result"
        owed = deliveries.get(job.id, {})
        for destination in job.destinations:
            takes = job.pipeline == FORWARD or is_owed(destination, job.outcome, made.get(job.id, ()))
            if takes and destination not in owed:
                yield (
                    f"{name}: {destination!r} takes the outcome {job.outcome!r}, but was not owed it; "
                    f"if its outcomes or objects were changed since: ainode retry {job.id}"
                )
        for destination, state in owed.items():
            if job.state == JobState.COMPLETED and state not in ("STORED", "CONFIRMED"):
                yield f"{name}: is COMPLETED, but its delivery to {destination!r} is {state}"


def _stuck(rows: AccountRows) -> Iterator[str]:
    for series in rows.undecided:
        came = datetime.fromtimestamp(series.last_at).astimezone()
        yield (
            f"series {series.series_instance_uid} of study {series.study_instance_uid}: its last image came at "
            f"{came:%Y-%m-%d %H:%M:%S}, and no decision was made; the log of the router says why"
        )
    for job in rows.stuck:
        since = datetime.fromtimestamp(job.progress_at or job.updated_at).astimezone()
        last = f"; last error: {job.error}" if job.error else ""
        yield (
            f"job {job.id} of study {job.study_instance_uid}: no progress in stage {job.stage} "
            f"since {since:%Y-%m-%d %H:%M:%S}{last}"
        )


def _of_deliveries(rows: AccountRows) -> Iterator[str]:
    for one in rows.deliveries:
        name = f"delivery of job {one.job_id} to {one.destination!r}"
        if one.state in ("STORED", "CONFIRMED") and one.stored < one.instances:
            yield f"{name}: is {one.state}, but {one.stored} of {one.instances} objects are stored"
        if one.state == "CONFIRMED" and one.committed < one.instances:
            yield f"{name}: is CONFIRMED, but {one.committed} of {one.instances} objects are committed"


def tell(found: Account) -> str:
    """The account in plain words."""
    lines = [f"Series received first on {found.day}" if found.day else "Everything in the ledger", ""]
    lines += [tell_equation("images", "sent", found.sent, "instances"), *tell_balance(found.balance)]
    for name, unit, instances, of in (
        ("received", "series", "images", found.received),
        ("jobs", "jobs", "objects", found.jobs),
        ("deliveries", "deliveries", "objects", found.deliveries),
    ):
        rows = [(name, of.total), *((f"  {part}", count) for part, count in of.parts.items())]
        lines.append("")
        lines += [
            f"{what:40} {c.studies:7} studies {c.entries:7} {unit:10} {c.instances:9} {instances}" for what, c in rows
        ]
    lines.append("")
    alike = Counter((c.study_instance_uid, c.series_instance_uid, c.changed or "content") for c in found.conflicts)
    lines += [
        f"conflict: {count} images that came as series {series} of study {study} were here with other {changed}; "
        "both files of each are kept"
        for (study, series, changed), count in alike.items()
    ]
    waiting = attention(found)
    lines += waiting
    lines += [f"DIFFERENCE: {one}" for one in found.differences]
    lines.append(f"{len(found.conflicts)} conflicts, {len(found.quarantined)} quarantined results")
    verdict = f"{len(found.differences)} differences." if found.differences else "Everything is accounted for."
    lines.append(f"{verdict} {len(waiting)} of the lines above need an operator." if waiting else verdict)
    return "\n".join(lines)


def attention(found: Account) -> list[str]:
    """What is explained, and still waits for people; a sentence each, with what to do."""
    return [
        *(
            f"IDENTITY CHANGED: study {o.study_instance_uid} came again with other {o.changed}; {o.destination} has "
            f"results of job {o.job_id} under the old one; where that was a correction, withdraw them: "
            f"ainode retract {o.job_id} --reason worklist"
            for o in found.outdated
        ),
        *(tell_half_corrected(one) for one in found.half_corrected),
        *(
            f"NOT TAKEN: images of {_whose(one)}: {tell_refusals(one)}; {one.missing} are missing; send them again"
            for one in found.refused
            if one.missing
        ),
        *(tell_held(one) for one in found.held),
        *(
            f"DISCONTINUED: {s.instances} images of series {s.series_instance_uid}, study {s.study_instance_uid}, were "
            "not analysed, or not to the end, because their procedure step was discontinued; `ainode explain` the study"
            for s in found.discontinued
        ),
        *(
            f"OVERDUE: delivery of job {d.job_id} to {d.destination}, {d.stored} of {d.instances} objects stored: "
            f"{d.error or 'not tried yet'}"
            for d in found.overdue
        ),
        *(
            f"quarantined: {q.description} of job {q.job_id}, study {q.study_instance_uid}: {q.reason}"
            for q in found.quarantined
        ),
    ]


def _whose(one: Refusals) -> str:
    if not one.series_instance_uid:
        return "an unknown series"
    return f"series {one.series_instance_uid} of study {one.study_instance_uid}"


def tell_half_corrected(one: HalfCorrected) -> str:
    """In plain words, with what to do."""
    return (
        f"WAITS FOR PEOPLE: {one.again} of {one.images} images of series {one.series_instance_uid}, study "
        f"{one.study_instance_uid}, came again with other {one.changed}; send the others as well, or take the first "
        f"identity: ainode retry {one.job_id}"
    )


def tell_held(one: Held) -> str:
    """In plain words, with what to do; attributes, never values."""
    of = f", job {one.job_id}" if one.job_id else ""
    return (
        f"CONTRADICTING IDENTITY: series {one.series_instance_uid} of study {one.study_instance_uid}{of}: "
        f"{one.reason}; correct it at the sender and send the images again under one identity"
    )
