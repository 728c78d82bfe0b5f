"""Why was (not) something done with a study? Everything the ledger knows of it, as values and in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from node.errors import NotFoundError
from node.ledger.conflicts import outdated_deliveries
from node.ledger.corrections import half_corrected
from node.ledger.held_series import held
from node.ledger.pending_deliveries import is_stored, kinds_of
from node.ledger.refusals import refused_of
from node.ledger.tables import conflict, decision, delivery, delivery_instance, event, instance, job, result, series
from node.operate.account.refusals import refusals, tell_refusals
from node.operate.account.report import tell_half_corrected, tell_held
from node.operate.event_text import event_text


def _rows(
    connection: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool], order: str
) -> list[dict[str, Any]]:
    query = sa.select(table).where(*where).order_by(table.c[order])
    return [dict(row) for row in connection.execute(query).mappings()]


def explain(engine: sa.Engine, study_uid: str) -> dict[str, Any]:
    """Series with decisions and traces, jobs with results and deliveries, and the timeline of one study.

    Raises ``NotFoundError`` when the ledger does not know the study.
    """
    with engine.connect() as connection:
        found = _rows(connection, series, series.c.study_instance_uid == study_uid, order="first_at")
        strays = _rows(
            connection,
            conflict,
            conflict.c.study_instance_uid == study_uid,
            conflict.c.series_instance_uid.not_in([entry["series_instance_uid"] for entry in found]),
            order="received_at",
        )
        not_taken = refusals(connection, study_uid)
        if not found and not strays and not not_taken:
            raise NotFoundError(f"study {study_uid}: not in the ledger; `ainode status` lists the latest studies")
        outdated = outdated_deliveries(connection, study_uid)
        half = half_corrected(connection, study_uid)
        kept_back = held(connection, study_uid)
        for entry in found:
            belongs = [
                (t.c.study_instance_uid == study_uid) & (t.c.series_instance_uid == entry["series_instance_uid"])
                for t in (decision, conflict, job, instance)
            ]
            entry["decisions"] = _rows(connection, decision, belongs[0], order="generation")
            entry["conflicts"] = _rows(connection, conflict, belongs[1], order="received_at")
            waiting = (one for one in half if one.series_instance_uid == entry["series_instance_uid"])
            entry["half_corrected"] = [tell_half_corrected(one) for one in waiting]
            mixed = (one for one in kept_back if one.series_instance_uid == entry["series_instance_uid"])
            entry["held"] = [tell_held(one) for one in mixed]
            own = [one for one in not_taken if one.series_instance_uid == entry["series_instance_uid"]]
            missing = refused_of(connection, study_uid, entry["series_instance_uid"])
            entry["refused"] = sum(one.images for one in missing)
            entry["refusals"] = [tell_refusals(one) for one in own]
            entry["refusals"] += [
                f"{one.images} of an unknown series refused ({one.reason}), sent by {one.calling_ae} at that time"
                for one in missing
                if not one.series_instance_uid
            ]
            entry["bytes"] = connection.scalar(sa.select(sa.func.sum(instance.c.size)).where(belongs[3])) or 0
            entry["jobs"] = _rows(connection, job, belongs[2], order="created_at")
            for one in entry["jobs"]:
                one["outdated"] = {o.destination: o.changed for o in outdated if o.job_id == one["id"]}
                one["results"] = _rows(connection, result, result.c.job_id == one["id"], order="created_at")
                one["deliveries"] = _rows(connection, delivery, delivery.c.job_id == one["id"], order="created_at")
                kinds = kinds_of(connection, one["id"])
                for sent in one["deliveries"]:
                    of = kinds.get(sent["destination"])
                    sent["kinds"] = None if of is None else sorted(of)
                    sent["instances"] = _rows(
                        connection,
                        delivery_instance,
                        delivery_instance.c.job_id == one["id"],
                        delivery_instance.c.destination == sent["destination"],
                        order="sop_instance_uid",
                    )
        timeline = [
            _with_text(row) for row in _rows(connection, event, event.c.study_instance_uid == study_uid, order="at")
        ]
    pipelines = {one["id"]: one["pipeline"] for entry in found for one in entry["jobs"]}
    for line in timeline:
        line["pipeline"] = pipelines.get(line["job_id"], "")
    timeline += [
        {"at": one.at, "what": "not taken", "detail": f"images: {tell_refusals(one)}", "pipeline": "", "job_id": None}
        for one in not_taken
    ]
    known = {entry["series_instance_uid"] for entry in found}
    return {
        "study_instance_uid": study_uid,
        "series": found,
        "conflicts": strays,
        "refusals": [
            f"{tell_refusals(one)}: nothing of series {one.series_instance_uid} was taken"
            for one in not_taken
            if one.series_instance_uid not in known
        ],
        "timeline": sorted(timeline, key=lambda line: float(line["at"])),
    }


def _with_text(row: dict[str, Any]) -> dict[str, Any]:
    what, detail = event_text(row)
    return {**row, "what": what, "detail": detail}


def clock(seconds: float | None) -> str:
    """Local date and time of an ``*_at`` value."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def tell(explanation: dict[str, Any]) -> str:
    """``explain`` in plain words."""
    lines = [f"Study {explanation['study_instance_uid']}"]
    lines += [_tell_conflict(entry) for entry in explanation["conflicts"]]
    lines += [f"  images: {sentence}" for sentence in explanation["refusals"]]
    for one in explanation["series"]:
        lines.append("")
        counts = f"{one['instances']} images," + (f" {one['refused']} refused," if one["refused"] else "")
        lines.append(f"Series {one['series_instance_uid']}: {one['modality'] or 'no modality'}, {counts}")
        lines.append(f"  received {clock(one['first_at'])} to {clock(one['last_at'])}")
        if one["state"] == "RECEIVING":
            lines.append("  not complete yet: still receiving, or waiting for the quiet period")
            lines += [f"  {sentence}" for sentence in tell_doubts(one)]
        lines += [f"  images: {sentence}" for sentence in one["refusals"]]
        lines += [_tell_conflict(entry) for entry in one["conflicts"]]
        lines += [f"  {sentence}" for sentence in (*one["half_corrected"], *one["held"])]
        for verdict in one["decisions"]:
            lines += _tell_decision(verdict, one)
        for work in one["jobs"]:
            lines += _tell_job(work)
    lines += ["", "Timeline"]
    lines += [_tell_event(line) for line in explanation["timeline"]]
    return "\n".join(lines)


def tell_doubts(one: Mapping[str, Any]) -> list[str]:
    """What a series that is not complete waits for, each with its deadline."""
    return [
        f"waits until {clock(doubt['until'])}: {doubt['about']}" if doubt["until"] else f"waits: {doubt['about']}"
        for doubt in one["doubts"] or ()
    ]


def _tell_event(line: dict[str, Any]) -> str:
    of = f"{line['pipeline']}: " if line["pipeline"] else ""
    detail = f": {line['detail']}" if line["detail"] else ""
    return f"  {clock(line['at'])}  {of}{line['what']}{detail}"


def _tell_conflict(entry: dict[str, Any]) -> str:
    changed = entry["changed"] or "content"
    return f"  CONFLICT: image {entry['sop_instance_uid']} came again with other {changed}; both files are kept"


def _tell_decision(verdict: dict[str, Any], one: dict[str, Any]) -> list[str]:
    lines = []
    if verdict["generation"] == one["generation"]:
        lines.append(f"  complete: {one['completed_by']}")
    if verdict["incomplete"]:
        lines.append(f"  INCOMPLETE: {verdict['incomplete']}")
    if verdict["caveat"]:
        lines.append(f"  {verdict['caveat']}")
    lines.append(f"  {verdict['outcome']}: {verdict['reason']}")
    return lines + tell_trace(verdict["trace"])


def tell_trace(trace: Iterable[Mapping[str, Any]]) -> list[str]:
    """The trace of a decision (``node.routing.rules.trace_entry``), one line for each rule and each condition."""
    lines = []
    for entry in trace:
        of = f"companion {entry['companion']!r} of rule" if "companion" in entry else "rule"
        note = f": {entry['note']}" if entry.get("note") else ""
        lines.append(f"    {of} {entry['rule']!r} {'matches' if entry['matched'] else 'does not match'}{note}")
        for condition in entry["conditions"]:
            is_or_not = "yes" if condition["matched"] else "NO "
            wanted = f"{'unless' if condition.get('unless') else 'wanted'} {condition['wanted']}"
            found = ", ".join(condition["found"])
            lines.append(f"      {is_or_not} {condition['attribute']} {wanted}, found {found or '(absent)'}")
    return lines


def _tell_job(work: dict[str, Any]) -> list[str]:
    lines = [f"  job {work['id']}: pipeline {work['pipeline']!r} by rule {work['rule']!r}"]
    at = f", stage {work['stage']}" if work["state"] in ("SCHEDULED", "IN PROGRESS") else ""
    outcome = f", outcome {work['outcome']}" if work["outcome"] else ""
    lines.append(f"    {work['state']}{at}{outcome}" + (f": {work['reason']}" if work["reason"] else ""))
    if work["error"]:
        lines.append(f"    last error: {work['error']}")
    if work["next_at"]:
        lines.append(f"    attempt {work['attempt'] + 1} at {clock(work['next_at'])}")
    for made in work["results"]:
        held = f" QUARANTINED: {made['quarantine']}" if made["quarantine"] else ""
        lines.append(f"    result {made['description']} ({made['size']} bytes){held}")
    for sent in work["deliveries"]:
        stored = sum(is_stored(i["status"]) for i in sent["instances"])
        lines.append(
            f"    delivery to {sent['destination']}: {sent['state']}, {stored} of {len(sent['instances'])} stored"
        )
        if sent["destination"] in work["outdated"]:
            lines.append(
                f"      IDENTITY CHANGED: the images came again with other {work['outdated'][sent['destination']]}; "
                "these results name the old one"
            )
        told = Counter((i["status"], i["comment"]) for i in sent["instances"] if i["status"] != 0x0000)
        for (status, comment), count in told.items():
            lines.append(f"      {count} answered {'nothing' if status is None else f'0x{status:04X}'}: {comment}")
        if sent["error"]:
            lines.append(f"      last error: {sent['error']}; next try {clock(sent['next_at'])}")
    return lines
