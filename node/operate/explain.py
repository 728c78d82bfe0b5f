"""Explanation of a study: all that the ledger holds about it, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from node.errors import NotFoundError
from node.ledger.corrections import Outdated, half_corrected, outdated_deliveries
from node.ledger.engine import snapshot
from node.ledger.events import EventKind
from node.ledger.excluded_images import excluded_images
from node.ledger.held_series import contradicting_images, held
from node.ledger.jobs import Job
from node.ledger.orders import order_summaries, orders_of_study
from node.ledger.patient_changes import changed_studies
from node.ledger.progress import SeriesProgress
from node.ledger.refusals import refused_of
from node.ledger.states import ACTIVE, JobStage
from node.ledger.study_history import DecisionRecord, StudyHistory, study_history
from node.ledger.worklist_queries import queries_of_study
from node.operate.account.description import describe_half_corrected, describe_held
from node.operate.account.refusals import Refusals, describe_refusals, refusals
from node.operate.event_text import event_text
from node.operate.pipeline_obstacles import awaited_result, obstacle
from node.operate.stage_text import add_stages
from node.operate.study_labels import Label
from node.reasons import ReasonCode, reason_text, trace_in_words
from node.translation import gettext


def explain(engine: sa.Engine, study_uid: str) -> dict[str, Any]:
    """Series with decisions and traces, jobs with results and deliveries, and the timeline of one study.

    Raises ``NotFoundError`` when the ledger does not know the study.
    """
    with snapshot(engine) as connection:
        history = study_history(connection, study_uid)
        not_taken = refusals(connection, study_uid)
        if not (history.series or history.conflicts or not_taken):
            raise NotFoundError(f"study {study_uid}: not in the ledger; `ainode status` lists the latest studies")
        jobs = _jobs(history, outdated_deliveries(connection, study_uid))
        add_stages(connection, study_uid, jobs)
        for work in jobs.values():
            waits = work["state"] in ACTIVE and work["stage"] == JobStage.INFER
            needs = awaited_result(work, jobs.values()) if waits else None
            work["obstacle"] = (needs or obstacle(connection, work["pipeline"])) if waits else None
            work["waited_for"] = [] if needs else work["waited_for"]
        half, contradicting = half_corrected(connection, study_uid), held(connection, study_uid)
        excluded = excluded_images(connection, study_uid)
        asked = queries_of_study(connection, study_uid)
        orders, changed = orders_of_study(connection, study_uid), changed_studies(connection, study_uid)
        series = []
        for progress in history.progress().series if history.series else ():
            entry = _series(history, progress, jobs)
            uid = entry["series_instance_uid"]
            entry["half_corrected"] = [
                describe_half_corrected(analysis) for analysis in half if analysis.series_instance_uid == uid
            ]
            entry["held"] = [
                describe_held(held_series) for held_series in contradicting if held_series.series_instance_uid == uid
            ]
            entry["contradicting"] = [
                image
                for held_series in contradicting
                if held_series.series_instance_uid == uid
                for image in contradicting_images(held_series)
            ]
            entry["excluded"] = [vars(image) for image in excluded if image.series_instance_uid == uid]
            own = [refusal for refusal in not_taken if refusal.series_instance_uid == uid]
            missing = refused_of(connection, study_uid, uid)
            entry["refused"] = sum(refusal.images for refusal in missing)
            entry["refusals"] = [describe_refusals(refusal) for refusal in own]
            entry["refusals"] += [
                gettext(
                    "{images} of an unknown series refused ({reason}), sent by {calling_ae} at that time",
                    images=refusal.images,
                    reason=refusal.reason,
                    calling_ae=refusal.calling_ae,
                )
                for refusal in missing
                if not refusal.series_instance_uid
            ]
            series.append(entry)
    known = {entry["series_instance_uid"] for entry in series}
    return {
        "study_instance_uid": study_uid,
        "orders": order_summaries((*orders.active, *orders.canceled)),
        "orders_of_others": len(orders.of_others),
        "worklist": [
            {"state": query.state.value, "reason": reason_text(query.reason), "asked_at": query.asked_at}
            for query in asked
        ],
        "patient_changes": [{"kind": change.kind.value, "at": change.at} for change in changed],
        "series": series,
        "conflicts": [vars(conflict) for conflict in history.conflicts if conflict.series_instance_uid not in known],
        "refusals": [
            gettext(
                "{refusals}: nothing of series {series} was taken",
                refusals=describe_refusals(refusal),
                series=refusal.series_instance_uid,
            )
            for refusal in not_taken
            if refusal.series_instance_uid not in known
        ],
        "timeline": _timeline(history, not_taken),
    }


def name_series(explanation: dict[str, Any], label: Label) -> None:
    """Add Series Number and Series Description to each series; both come from files, so ``explain`` lacks them."""
    for entry in explanation["series"]:
        uid = entry["series_instance_uid"]
        entry |= {"number": label.numbers.get(uid, ""), "description": label.series.get(uid, "")}


def _series(history: StudyHistory, progress: SeriesProgress, jobs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    uid = progress.series.series_instance_uid
    decisions = [_decision(decision) for decision in history.decisions if decision.series_instance_uid == uid]
    return {
        **vars(progress.series),
        "number": "",
        "description": "",
        "progress": progress.progress,
        "completed_by": _signal(history, uid),
        "decisions": decisions,
        "conflicts": [vars(conflict) for conflict in history.conflicts if conflict.series_instance_uid == uid],
        "bytes": history.sizes.get(uid, 0),
        "jobs": [{**jobs[job.job.id], "progress": job.progress} for job in progress.jobs],
    }


def _decision(of: DecisionRecord) -> dict[str, Any]:
    return {**vars(of), **_reasons(of), "trace": trace_in_words(of.trace)}


def _reasons(of: DecisionRecord | Job) -> dict[str, str | None]:
    names = ("reason", "incomplete", "caveat", "urgent")
    return {name: reason_text(vars(of)[name]) or None for name in names if name in vars(of)}


def _signal(history: StudyHistory, uid: str) -> str:
    """Return by which signal a series was last complete; empty when it never was."""
    of_series = [
        event
        for event in history.events
        if event.kind == EventKind.SERIES_COMPLETE and event.series_instance_uid == uid
    ]
    return event_text(vars(of_series[-1]))[1] if of_series else ""


def _jobs(history: StudyHistory, outdated: Iterable[Outdated]) -> dict[str, dict[str, Any]]:
    """By id, each with its results and deliveries."""
    jobs: dict[str, dict[str, Any]] = {
        job.id: {**vars(job), **_reasons(job), "outdated": {}, "results": [], "deliveries": []} for job in history.jobs
    }
    for outdated_delivery in outdated:
        jobs[outdated_delivery.job_id]["outdated"][outdated_delivery.destination] = outdated_delivery.changed
    for result in history.results:
        jobs[result.job_id]["results"].append(vars(result))
    for delivery in history.deliveries:
        key = (delivery.job_id, delivery.destination)
        answers = [vars(answer) for answer in history.answers if (answer.job_id, answer.destination) == key]
        kinds = None if delivery.every_kind else history.kinds.get(key, [])
        jobs[delivery.job_id]["deliveries"].append({**vars(delivery), "kinds": kinds, "instances": answers})
    return jobs


def _timeline(history: StudyHistory, not_taken: Iterable[Refusals]) -> list[dict[str, Any]]:
    pipelines = {job.id: job.pipeline for job in history.jobs}
    lines: list[dict[str, Any]] = []
    for event in history.events:
        what, detail = event_text(vars(event))
        pipeline = pipelines.get(event.job_id or "", "")
        lines.append({**vars(event), "what": what, "detail": detail, "pipeline": pipeline})
    lines += [
        {
            "at": refusal.at,
            "what": gettext("not taken"),
            "detail": gettext("images: {refusals}", refusals=describe_refusals(refusal)),
            "pipeline": "",
            "job_id": None,
        }
        for refusal in not_taken
    ]
    return sorted(lines, key=lambda line: float(line["at"]))


def clock(seconds: float | None) -> str:
    """Local date and time of an ``*_at`` value."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def describe_deferrals(decision: Mapping[str, Any]) -> list[str]:
    """Return what a series that is not complete waits for, each with its deadline; empty while images arrive."""
    sentences = []
    for deferral in decision["doubts"] or ():
        about, until = deferral["about"], clock(deferral["until"])
        if isinstance(about, str) or about["code"] != ReasonCode.LAST_IMAGE:
            reason = reason_text(about)
            sentences.append(
                gettext("waits until {until}: {reason}", until=until, reason=reason)
                if deferral["until"]
                else gettext("waits until this ends: {reason}", reason=reason)
            )
        elif about["at"] == decision["last_at"]:  # otherwise an image has begun another quiet period since
            sentences.append(
                gettext(
                    "waits for more images; the quiet period of {seconds:g} s ends at {until}",
                    seconds=deferral["seconds"],
                    until=until,
                )
            )
    return sentences
