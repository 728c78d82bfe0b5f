"""What cannot be: rows that contradict one another, or that nothing explains; a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime

from node.config import FORWARD
from node.ledger.states import DeliveryState, JobStage, JobState
from node.operate.account.rows import AccountRows

Recipient = Callable[[str, str, Collection[str]], bool]
"""Whether a destination gets anything of an outcome, of which these kinds were made: ``Config.is_recipient``."""
_STORED = (DeliveryState.STORED, DeliveryState.CONFIRMED)


def differences(rows: AccountRows, is_recipient: Recipient) -> Iterator[str]:
    """Of some studies, and of what belongs to none."""
    yield from _rows_without_origin(rows)
    yield from _of_series(rows)
    yield from _of_jobs(rows, is_recipient)
    yield from _of_shadow(rows)
    yield from _stuck(rows)
    yield from _of_deliveries(rows)


def result_kinds(rows: AccountRows) -> dict[str, list[str]]:
    """Job -> kinds of its objects that the gate let pass, one for each object."""
    kinds: dict[str, list[str]] = {}
    for result in rows.results:
        if result.quarantine is None:
            kinds.setdefault(result.job_id, []).append(result.kind or "")
    return kinds


def _rows_without_origin(rows: AccountRows) -> Iterator[str]:
    if rows.rowless:
        yield f"{rows.rowless} received images have no row; the receiver's log says why"
    for study in rows.unrecorded:
        yield f"study {study} has finished and has no decision record of that; the router's log says why"
    if rows.missing_copies:
        yield f"{rows.missing_copies} files have one copy only; `ainode verify --fleet` names them"
    for row in rows.without_origin:
        yield f"{row.rows} {row.of}: there is no row of these"
    for missing in rows.missing_origins:
        yield f"{missing.what}: its {missing.origin} has no row"


def _of_series(rows: AccountRows) -> Iterator[str]:
    jobs = {(j.study_instance_uid, j.series_instance_uid, j.generation, j.pipeline) for j in rows.jobs}
    for one in rows.series:
        name = f"series {one.series_instance_uid} of study {one.study_instance_uid}"
        if one.recorded != one.instances:
            yield f"{name}: counts {one.instances} images, but {one.recorded} have a row"
        for generation in range(1, one.generation + 1):
            decision = one.decisions.get(generation)
            if decision is None:
                yield f"{name}: generation {generation} was complete, but there is no decision on it"
                continue
            for pipeline in decision.pipelines:
                if (one.study_instance_uid, one.series_instance_uid, generation, pipeline) not in jobs:
                    yield f"{name}: generation {generation} was routed to {pipeline!r}, but there is no job"


def _of_jobs(rows: AccountRows, is_recipient: Recipient) -> Iterator[str]:
    kinds = result_kinds(rows)
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
        if not kinds.get(job.id) and job.pipeline != FORWARD and job.results_purged_at is None:
            yield f"{name}: is encoded, but has no result"
        scheduled = deliveries.get(job.id, {})
        for destination in () if job.shadow else job.destinations:
            takes = job.pipeline == FORWARD or is_recipient(destination, job.outcome, kinds.get(job.id, ()))
            if takes and destination not in scheduled:
                yield (
                    f"{name}: {destination!r} takes the outcome {job.outcome!r}, but has no delivery of it; "
                    f"if its outcomes or objects were changed since: ainode retry {job.id}"
                )
        for destination, state in scheduled.items():
            if job.state == JobState.COMPLETED and state not in _STORED:
                yield f"{name}: is COMPLETED, but its delivery to {destination!r} is {state}"


def _of_shadow(rows: AccountRows) -> Iterator[str]:
    shadow = {job.id for job in rows.jobs if job.shadow}
    for delivery in rows.deliveries:
        if delivery.job_id in shadow:
            yield f"job {delivery.job_id}: is kept in shadow, but has a delivery to {delivery.destination!r}"


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
        if one.state in _STORED and one.stored < one.instances:
            yield f"{name}: is {one.state}, but {one.stored} of {one.instances} objects are stored"
        if one.state == DeliveryState.CONFIRMED and one.committed < one.instances:
            yield f"{name}: is CONFIRMED, but {one.committed} of {one.instances} objects are committed"
