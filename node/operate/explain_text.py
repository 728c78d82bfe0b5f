"""What ``ainode explain`` prints of an explanation (``node.operate.explain``), in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from node.ledger.excluded_images import ExcludedImage
from node.ledger.pending_deliveries import is_stored
from node.ledger.states import ACTIVE, SeriesState
from node.operate.account.description import describe_excluded
from node.operate.characteristics import characteristic_lines
from node.operate.explain import clock, describe_deferrals
from node.operate.stage_text import stage_text, wait_text


def describe(explanation: dict[str, Any]) -> str:
    """Return an explanation in plain words."""
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
        if one["purged_images"]:
            lines.append(f"  {one['purged_images']} images are purged by retention; results of them may be here")
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


def _describe_time(work: dict[str, Any]) -> list[str]:
    lines = []
    if (waits := work["obstacle"]) is not None:
        until = f"; next attempt after {clock(waits['until'])}" if waits["until"] else ""
        lines.append(f"    waits: {waits['reason']}{until}")
    if words := wait_text(work):
        lines.append(f"    {words}")
    if work["stages"]:
        lines.append(f"    time: {stage_text(work['stages'])}")
    if work["results_purged_at"]:
        lines.append(f"    results purged by retention at {clock(work['results_purged_at'])}")
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
    lines += _describe_time(work)
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
