"""Explanation of a study: all that the ledger holds about it, as values and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from node.errors import NotFoundError
from node.ledger.corrections import Outdated, half_corrected, outdated_deliveries
from node.ledger.engine import snapshot
from node.ledger.events import EventKind
from node.ledger.excluded_images import ExcludedImage, excluded_images
from node.ledger.held_series import contradicting_images, held
from node.ledger.jobs import Job
from node.ledger.pending_deliveries import is_stored
from node.ledger.progress import SeriesProgress
from node.ledger.refusals import refused_of
from node.ledger.states import ACTIVE, JobStage, SeriesState
from node.ledger.study_history import DecisionRecord, StudyHistory, study_history
from node.operate.account.description import describe_excluded, describe_half_corrected, describe_held
from node.operate.account.refusals import Refusals, describe_refusals, refusals
from node.operate.characteristics import characteristic_lines
from node.operate.event_text import event_text
from node.operate.pipeline_obstacles import obstacle
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
        for work in jobs.values():
            waits = work["state"] in ACTIVE and work["stage"] == JobStage.INFER
            work["obstacle"] = obstacle(connection, work["pipeline"]) if waits else None
        half, contradicting = half_corrected(connection, study_uid), held(connection, study_uid)
        excluded = excluded_images(connection, study_uid)
        series = []
        for progress in history.progress().series if history.series else ():
            entry = _series(history, progress, jobs)
            uid = entry["series_instance_uid"]
            entry["half_corrected"] = [describe_half_corrected(one) for one in half if one.series_instance_uid == uid]
            entry["held"] = [describe_held(one) for one in contradicting if one.series_instance_uid == uid]
            entry["contradicting"] = [
                image for one in contradicting if one.series_instance_uid == uid for image in contradicting_images(one)
            ]
            entry["excluded"] = [vars(one) for one in excluded if one.series_instance_uid == uid]
            own = [one for one in not_taken if one.series_instance_uid == uid]
            missing = refused_of(connection, study_uid, uid)
            entry["refused"] = sum(one.images for one in missing)
            entry["refusals"] = [describe_refusals(one) for one in own]
            entry["refusals"] += [
                gettext(
                    "{images} of an unknown series refused ({reason}), sent by {calling_ae} at that time",
                    images=one.images,
                    reason=one.reason,
                    calling_ae=one.calling_ae,
                )
                for one in missing
                if not one.series_instance_uid
            ]
            series.append(entry)
    known = {entry["series_instance_uid"] for entry in series}
    return {
        "study_instance_uid": study_uid,
        "series": series,
        "conflicts": [vars(one) for one in history.conflicts if one.series_instance_uid not in known],
        "refusals": [
            gettext(
                "{refusals}: nothing of series {series} was taken",
                refusals=describe_refusals(one),
                series=one.series_instance_uid,
            )
            for one in not_taken
            if one.series_instance_uid not in known
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
    decisions = [_decision(one) for one in history.decisions if one.series_instance_uid == uid]
    return {
        **vars(progress.series),
        "number": "",
        "description": "",
        "progress": progress.progress,
        "completed_by": _signal(history, uid),
        "decisions": decisions,
        "conflicts": [vars(one) for one in history.conflicts if one.series_instance_uid == uid],
        "bytes": history.sizes.get(uid, 0),
        "jobs": [{**jobs[one.job.id], "progress": one.progress} for one in progress.jobs],
    }


def _decision(of: DecisionRecord) -> dict[str, Any]:
    return {**vars(of), **_reasons(of), "trace": trace_in_words(of.trace)}


def _reasons(of: DecisionRecord | Job) -> dict[str, str | None]:
    return {name: reason_text(vars(of)[name]) or None for name in ("reason", "incomplete", "caveat")}


def _signal(history: StudyHistory, uid: str) -> str:
    """Return by which signal a series was last complete; empty when it never was."""
    of_series = [
        one for one in history.events if one.kind == EventKind.SERIES_COMPLETE and one.series_instance_uid == uid
    ]
    return event_text(vars(of_series[-1]))[1] if of_series else ""


def _jobs(history: StudyHistory, outdated: Iterable[Outdated]) -> dict[str, dict[str, Any]]:
    """By id, each with its results and deliveries."""
    jobs: dict[str, dict[str, Any]] = {
        job.id: {**vars(job), **_reasons(job), "outdated": {}, "results": [], "deliveries": []} for job in history.jobs
    }
    for one in outdated:
        jobs[one.job_id]["outdated"][one.destination] = one.changed
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
            "at": one.at,
            "what": gettext("not taken"),
            "detail": gettext("images: {refusals}", refusals=describe_refusals(one)),
            "pipeline": "",
            "job_id": None,
        }
        for one in not_taken
    ]
    return sorted(lines, key=lambda line: float(line["at"]))


def clock(seconds: float | None) -> str:
    """Local date and time of an ``*_at`` value."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def describe(explanation: dict[str, Any]) -> str:
    """``explain`` in plain words."""
    lines = [f"Study {explanation['study_instance_uid']}"]
    lines += [_describe_conflict(entry) for entry in explanation["conflicts"]]
    lines += [f"  images: {sentence}" for sentence in explanation["refusals"]]
    for one in explanation["series"]:
        lines.append("")
        counts = f"{one['instances']} images," + (f" {one['refused']} refused," if one["refused"] else "")
        lines.append(f"Series {_named(one)}: {one['modality'] or 'no modality'}, {counts}")
        lines.append(f"  received {clock(one['first_at'])} to {clock(one['last_at'])}")
        if one["state"] == SeriesState.RECEIVING:
            lines += [f"  not complete: {sentence}" for sentence in describe_deferrals(one) or ["receiving images"]]
        lines += [f"  images: {sentence}" for sentence in one["refusals"]]
        lines += [_describe_conflict(entry) for entry in one["conflicts"]]
        lines += [f"  {sentence}" for sentence in (*one["half_corrected"], *one["held"])]
        lines += [f"  {describe_excluded(ExcludedImage(**image))}" for image in one["excluded"]]
        for decision in one["decisions"]:
            lines += _describe_decision(decision, one)
        for work in one["jobs"]:
            lines += _describe_job(work)
    lines += ["", "Timeline"]
    lines += [_describe_event(line) for line in explanation["timeline"]]
    return "\n".join(lines)


def _named(one: Mapping[str, Any]) -> str:
    """Return number, description and UID of a series, as far as they are known."""
    names = [one["number"], repr(one["description"]) if one["description"] else ""]
    names = [name for name in names if name]
    return f"{' '.join(names)} ({one['series_instance_uid']})" if names else one["series_instance_uid"]


def describe_deferrals(one: Mapping[str, Any]) -> list[str]:
    """Return what a series that is not complete waits for, each with its deadline; empty while images arrive."""
    sentences = []
    for deferral in one["doubts"] or ():
        about, until = deferral["about"], clock(deferral["until"])
        if isinstance(about, str) or about["code"] != ReasonCode.LAST_IMAGE:
            reason = reason_text(about)
            sentences.append(
                gettext("waits until {until}: {reason}", until=until, reason=reason)
                if deferral["until"]
                else gettext("waits until this ends: {reason}", reason=reason)
            )
        elif about["at"] == one["last_at"]:  # otherwise an image has begun another quiet period since
            sentences.append(
                gettext(
                    "waits for more images; the quiet period of {seconds:g} s ends at {until}",
                    seconds=deferral["seconds"],
                    until=until,
                )
            )
    return sentences


def _describe_event(line: dict[str, Any]) -> str:
    of = f"{line['pipeline']}: " if line["pipeline"] else ""
    detail = f": {line['detail']}" if line["detail"] else ""
    return f"  {clock(line['at'])}  {of}{line['what']}{detail}"


def _describe_conflict(entry: dict[str, Any]) -> str:
    changed = entry["changed"] or "content"
    image = entry["sop_instance_uid"]
    return f"  CONFLICT: image {image} was received again with different {changed}; both files are kept"


def _describe_decision(decision: dict[str, Any], one: dict[str, Any]) -> list[str]:
    lines = []
    if decision["generation"] == one["generation"]:
        lines.append(f"  complete: {one['completed_by']}")
    if decision["incomplete"]:
        lines.append(f"  INCOMPLETE: {decision['incomplete']}")
    if decision["caveat"]:
        lines.append(f"  {decision['caveat']}")
    lines += [f"  {line}" for line in characteristic_lines(decision["characteristics"] or {})]
    lines.append(f"  {decision['outcome']}: {decision['reason']}")
    return lines + describe_trace(decision["trace"])


def describe_trace(trace: Iterable[Mapping[str, Any]]) -> list[str]:
    """The trace of a decision in words (``node.reasons.trace_in_words``), one line for each rule and each condition."""
    lines = []
    for entry in trace:
        of = f"companion {entry['companion']!r} of rule" if "companion" in entry else "rule"
        note = f": {entry['note']}" if entry.get("note") else ""
        lines.append(f"    {of} {entry['rule']!r} {'matches' if entry['matched'] else 'does not match'}{note}")
        for condition in entry["conditions"]:
            is_or_not = "yes" if condition["matched"] else "NO "
            wanted = f"{'unless' if condition.get('unless') else 'wanted'} {condition['wanted']}"
            values = ", ".join(condition["found"])
            lines.append(f"      {is_or_not} {condition['attribute']} {wanted}, found {values or '(absent)'}")
    return lines


def _describe_results(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each kind of object: a derived series alone may have hundreds."""
    sizes: dict[tuple[str, str], list[int]] = {}
    for result in results:
        sizes.setdefault((result["description"], result["quarantine"] or ""), []).append(result["size"])
    lines = []
    for (description, quarantine), of in sizes.items():
        held = f" QUARANTINED: {quarantine}" if quarantine else ""
        number = f"{len(of)} objects" if len(of) > 1 else "1 object"
        lines.append(f"    result {description}: {number}, {sum(of)} bytes{held}")
    return lines


def _describe_job(work: dict[str, Any]) -> list[str]:
    lines = [f"  job {work['id']}: pipeline {work['pipeline']!r} by rule {work['rule']!r}"]
    at = f", stage {work['stage']}" if work["state"] in ACTIVE else ""
    outcome = f", outcome {work['outcome']}" if work["outcome"] else ""
    lines.append(f"    {work['state']}{at}{outcome}" + (f": {work['reason']}" if work["reason"] else ""))
    if work["error"]:
        lines.append(f"    last error: {work['error']}")
    if work["next_at"]:
        lines.append(f"    attempt {work['attempt'] + 1} at {clock(work['next_at'])}")
    if (waits := work["obstacle"]) is not None:
        until = f"; next attempt after {clock(waits['until'])}" if waits["until"] else ""
        lines.append(f"    waits: {waits['reason']}{until}")
    if work["shadow"]:
        lines.append(f"    in shadow ({work['shadow']}): its results are kept here and sent to no destination")
    lines += _describe_results(work["results"])
    for sent in work["deliveries"]:
        stored = sum(is_stored(i["status"]) for i in sent["instances"])
        how_many = f"{stored} of {len(sent['instances'])} stored" if sent["instances"] else "not begun"
        lines.append(f"    delivery to {sent['destination']}: {sent['state']}, {how_many}")
        if sent["destination"] in work["outdated"]:
            lines.append(
                "      IDENTITY CHANGED: the images were received again with different "
                f"{work['outdated'][sent['destination']]}; these results name the old one"
            )
        answers = Counter((i["status"], i["comment"]) for i in sent["instances"] if i["status"] != 0x0000)
        for (status, comment), count in answers.items():
            lines.append(f"      {count} answered {'nothing' if status is None else f'0x{status:04X}'}: {comment}")
        if sent["error"]:
            lines.append(f"      last error: {sent['error']}; next try {clock(sent['next_at'])}")
    return lines
