"""What cannot be: rows that contradict one another, or that nothing explains; a sentence each for the reader."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime

from node.config import FORWARD
from node.ledger.states import DeliveryState, JobStage, JobState
from node.operate.account.rows import AccountRows
from node.translation import gettext

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
        yield gettext("{rows} received images have no row; the receiver's log says why", rows=rows.rowless)
    for study in rows.unrecorded:
        yield gettext(
            "study {study} has finished and has no decision record of that; the router's log says why", study=study
        )
    if rows.missing_copies:
        yield gettext("{files} files have one copy only; `ainode verify --fleet` names them", files=rows.missing_copies)
    for row in rows.without_origin:
        yield gettext("{rows} {table}: there is no row of these", rows=row.rows, table=row.of)
    for missing in rows.missing_origins:
        yield gettext("{what}: its {origin} has no row", what=missing.what, origin=missing.origin)


def _of_series(rows: AccountRows) -> Iterator[str]:
    jobs = {(j.study_instance_uid, j.series_instance_uid, j.generation, j.pipeline) for j in rows.jobs}
    for series in rows.series:
        name = _series(series.series_instance_uid, series.study_instance_uid)
        if series.recorded != series.instances:
            yield gettext(
                "{series}: counts {counted} images, but {recorded} have a row",
                series=name,
                counted=series.instances,
                recorded=series.recorded,
            )
        for generation in range(1, series.generation + 1):
            decision = series.decisions.get(generation)
            if decision is None:
                yield gettext(
                    "{series}: generation {generation} was complete, but there is no decision on it",
                    series=name,
                    generation=generation,
                )
                continue
            for pipeline in decision.pipelines:
                if (series.study_instance_uid, series.series_instance_uid, generation, pipeline) not in jobs:
                    yield gettext(
                        "{series}: generation {generation} was routed to {pipeline!r}, but there is no job",
                        series=name,
                        generation=generation,
                        pipeline=pipeline,
                    )


def _of_jobs(rows: AccountRows, is_recipient: Recipient) -> Iterator[str]:
    kinds = result_kinds(rows)
    deliveries: dict[str, dict[str, str]] = {}
    for delivery in rows.deliveries:
        deliveries.setdefault(delivery.job_id, {})[delivery.destination] = delivery.state
    for job in rows.jobs:
        name = gettext("job {job} of study {study}", job=job.id, study=job.study_instance_uid)
        if job.state == JobState.CANCELED or job.stage != JobStage.DELIVER:
            continue
        if job.outcome is None:
            yield gettext("{job}: is encoded, but has no outcome", job=name)
            continue
        if not kinds.get(job.id) and job.pipeline != FORWARD and job.results_purged_at is None:
            yield gettext("{job}: is encoded, but has no result", job=name)
        scheduled = deliveries.get(job.id, {})
        for destination in () if job.shadow else job.destinations:
            takes = job.pipeline == FORWARD or is_recipient(destination, job.outcome, kinds.get(job.id, ()))
            if takes and destination not in scheduled:
                yield gettext(
                    "{job}: {destination!r} takes the outcome {outcome!r}, but has no delivery of it; "
                    "if its outcomes or objects were changed since: ainode retry {id}",
                    job=name,
                    destination=destination,
                    outcome=gettext(job.outcome),
                    id=job.id,
                )
        for destination, state in scheduled.items():
            if job.state == JobState.COMPLETED and state not in _STORED:
                yield gettext(
                    "{job}: is COMPLETED, but its delivery to {destination!r} is {state}",
                    job=name,
                    destination=destination,
                    state=state,
                )


def _of_shadow(rows: AccountRows) -> Iterator[str]:
    shadow = {job.id for job in rows.jobs if job.shadow}
    for delivery in rows.deliveries:
        if delivery.job_id in shadow:
            yield gettext(
                "job {job}: is kept in shadow, but has a delivery to {destination!r}",
                job=delivery.job_id,
                destination=delivery.destination,
            )


def _stuck(rows: AccountRows) -> Iterator[str]:
    for series in rows.undecided:
        yield gettext(
            "{series}: its last image came at {time}, and no decision was made; the log of the router says why",
            series=_series(series.series_instance_uid, series.study_instance_uid),
            time=_time(series.last_at),
        )
    for job in rows.stuck:
        text = gettext(
            "job {job} of study {study}: no progress in stage {stage} since {time}",
            job=job.id,
            study=job.study_instance_uid,
            stage=job.stage,
            time=_time(job.progress_at or job.updated_at),
        )
        yield text + (gettext("; last error: {error}", error=job.error) if job.error else "")


def _of_deliveries(rows: AccountRows) -> Iterator[str]:
    for delivery in rows.deliveries:
        name = gettext(
            "delivery of job {job} to {destination!r}", job=delivery.job_id, destination=delivery.destination
        )
        counts = {"delivery": name, "state": delivery.state, "all": delivery.instances}
        if delivery.state in _STORED and delivery.stored < delivery.instances:
            yield gettext(
                "{delivery}: is {state}, but {stored} of {all} objects are stored", stored=delivery.stored, **counts
            )
        if delivery.state == DeliveryState.CONFIRMED and delivery.committed < delivery.instances:
            yield gettext(
                "{delivery}: is {state}, but {committed} of {all} objects are committed",
                committed=delivery.committed,
                **counts,
            )


def _series(series_instance_uid: str, study_instance_uid: str) -> str:
    return gettext("series {series} of study {study}", series=series_instance_uid, study=study_instance_uid)


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"
