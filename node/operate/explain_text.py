"""What ``ainode explain`` prints of an explanation (``node.operate.explain``), in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from node.ledger.excluded_images import ExcludedImage
from node.ledger.pending_deliveries import is_stored
from node.ledger.states import ACTIVE, SeriesState, WorklistState, priority_word
from node.operate.account.description import describe_excluded
from node.operate.characteristics import characteristic_lines
from node.operate.explain import clock, describe_deferrals
from node.operate.stage_text import stage_text, wait_text
from node.translation import gettext, marked, ngettext
from node.translation.cells import padded


def describe(explanation: dict[str, Any]) -> str:
    """Return an explanation in plain words."""
    lines = [gettext("Study {study}", study=explanation["study_instance_uid"])]
    lines += _describe_orders(explanation)
    lines += [_describe_conflict(entry) for entry in explanation["conflicts"]]
    lines += ["  " + gettext("images: {refusals}", refusals=sentence) for sentence in explanation["refusals"]]
    for series in explanation["series"]:
        lines.append("")
        counts = gettext("{images} images,", images=series["instances"])
        counts += gettext(" {images} refused,", images=series["refused"]) if series["refused"] else ""
        modality = series["modality"] or gettext("no modality")
        lines.append(
            gettext("Series {name}: {modality}, {counts}", name=_named(series), modality=modality, counts=counts)
        )
        times = {"first": clock(series["first_at"]), "last": clock(series["last_at"])}
        lines.append("  " + gettext("received {first} to {last}", **times))
        if series["state"] == SeriesState.RECEIVING:
            deferrals = describe_deferrals(series) or [gettext("receiving images")]
            lines += ["  " + gettext("not complete: {deferral}", deferral=sentence) for sentence in deferrals]
        lines += ["  " + gettext("images: {refusals}", refusals=sentence) for sentence in series["refusals"]]
        if series["purged_images"]:
            text = marked("{images} images are purged by retention; results of them may be here")
            lines.append("  " + gettext(text, images=series["purged_images"]))
        lines += [_describe_conflict(entry) for entry in series["conflicts"]]
        lines += [f"  {sentence}" for sentence in (*series["half_corrected"], *series["held"])]
        lines += [f"  {describe_excluded(ExcludedImage(**image))}" for image in series["excluded"]]
        for number, decision in enumerate(series["decisions"], 1):
            if len(series["decisions"]) > 1:
                at = {"number": number, "all": len(series["decisions"]), "time": clock(decision["decided_at"])}
                lines.append("  " + gettext("Decision {number} of {all}, {time}", **at))
            lines += _describe_decision(decision, series)
        for work in series["jobs"]:
            lines += _describe_job(work)
    lines += ["", gettext("Timeline")]
    lines += [_describe_event(line) for line in explanation["timeline"]]
    return "\n".join(lines)


def _describe_orders(explanation: Mapping[str, Any]) -> list[str]:
    lines = []
    for order in explanation["orders"]:
        what = " ".join(filter(None, (order["procedure_code"], order["procedure"] and repr(order["procedure"]))))
        state = order["state"]
        text = (
            marked("order {what}: {priority}, {state}, from the worklist {time}")
            if order["of_worklist"]
            else marked("order {what}: {priority}, {state}, received {time}")
        )
        sentence = gettext(
            text,
            what=what or gettext("(no procedure)"),
            priority=order["priority"] or gettext("no priority"),
            state=gettext(state),
            time=clock(order["received_at"]),
        )
        lines.append(f"  {sentence}")
    if not explanation["orders"]:
        lines += [f"  {sentence}" for sentence in dict.fromkeys(map(_no_order, explanation["worklist"]))]
    if number := explanation["orders_of_others"]:
        sentence = ngettext(
            "{number} order has a number of this study and another patient, or none; it does not count",
            "{number} orders have a number of this study and another patient, or none; they do not count",
            number,
        )
        lines.append(f"  {sentence}")
    for change in explanation["patient_changes"]:
        text = (
            marked(
                "PATIENT MERGED with another at {time}; results have the identity of the images until the archive "
                "sends these again"
            )
            if change["kind"] == "merge"
            else marked(
                "PATIENT UPDATED at {time}; results have the identity of the images until the archive sends these again"
            )
        )
        lines.append("  " + gettext(text, time=clock(change["at"])))
    return lines


def _no_order(query: Mapping[str, Any]) -> str:
    """Why the worklist has brought no order."""
    if query["state"] == WorklistState.PENDING:
        if query["reason"]:
            return gettext("no order: {reason}; the node asks again", reason=query["reason"])
        return gettext("no order yet: the worklist is being asked")
    return gettext("no order: {reason}", reason=query["reason"] or gettext("it was deleted"))


def _named(series: Mapping[str, Any]) -> str:
    """Return number, description and UID of a series, as far as they are known."""
    names = [series["number"], repr(series["description"]) if series["description"] else ""]
    names = [name for name in names if name]
    return f"{' '.join(names)} ({series['series_instance_uid']})" if names else series["series_instance_uid"]


def _describe_event(line: dict[str, Any]) -> str:
    of = f"{line['pipeline']}: " if line["pipeline"] else ""
    detail = f": {line['detail']}" if line["detail"] else ""
    return f"  {clock(line['at'])}  {of}{line['what']}{detail}"


def _describe_conflict(entry: dict[str, Any]) -> str:
    return "  " + gettext(
        "CONFLICT: image {image} was received again with different {changed}; both files are kept",
        image=entry["sop_instance_uid"],
        changed=entry["changed"] or gettext("content"),
    )


def _describe_decision(decision: dict[str, Any], series: dict[str, Any]) -> list[str]:
    lines = []
    if decision["generation"] == series["generation"]:
        lines.append("  " + gettext("complete: {signal}", signal=series["completed_by"]))
    if decision["incomplete"]:
        lines.append("  " + gettext("INCOMPLETE: {missing}", missing=decision["incomplete"]))
    if decision["caveat"]:
        lines.append(f"  {decision['caveat']}")
    lines += [f"  {line}" for line in characteristic_lines(decision["characteristics"] or {})]
    outcome = decision["outcome"]
    lines.append(f"  {gettext(outcome)}: {decision['reason']}")
    return lines + describe_trace(decision["trace"])


def describe_trace(trace: Iterable[Mapping[str, Any]]) -> list[str]:
    """The trace of a decision in words (``node.reasons.trace_in_words``), one line for each rule and each condition."""
    lines = []
    for entry in trace:
        of = gettext("rule {rule!r}", rule=entry["rule"])
        if "companion" in entry:
            of = gettext("companion {companion!r} of rule {rule!r}", **entry)
        matches = gettext("{rule} matches", rule=of) if entry["matched"] else gettext("{rule} does not match", rule=of)
        lines.append(f"    {matches}{': ' + entry['note'] if entry.get('note') else ''}")
        for condition in entry["conditions"]:
            is_or_not = gettext("yes") if condition["matched"] else gettext("NO")
            text = (
                marked("{attribute} unless {wanted}, found {values}")
                if condition.get("unless")
                else marked("{attribute} wanted {wanted}, found {values}")
            )
            nothing = gettext("absent: the order is canceled") if condition.get("canceled") else gettext("absent")
            values = ", ".join(condition["found"]) or f"({nothing})"
            compared = gettext(text, attribute=condition["attribute"], wanted=condition["wanted"], values=values)
            lines.append(f"      {padded(is_or_not, 3)} {compared}")
    return lines


def _describe_results(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each kind of object: a derived series alone may have hundreds."""
    sizes: dict[tuple[str, str], list[int]] = {}
    for result in results:
        sizes.setdefault((result["description"], result["quarantine"] or ""), []).append(result["size"])
    lines = []
    for (description, quarantine), of in sizes.items():
        held = " " + gettext("QUARANTINED: {reason}", reason=quarantine) if quarantine else ""
        number = ngettext("{number} object", "{number} objects", len(of))
        size = {"description": description, "number": number, "size": sum(of)}
        lines.append("    " + gettext("result {description}: {number}, {size} bytes", **size) + held)
    return lines


def _describe_time(work: dict[str, Any]) -> list[str]:
    lines = []
    if (waits := work["obstacle"]) is not None:
        until = gettext("; next attempt after {until}", until=clock(waits["until"])) if waits["until"] else ""
        lines.append("    " + gettext("waits: {reason}{until}", reason=waits["reason"], until=until))
    if words := wait_text(work):
        lines.append(f"    {words}")
    if work["stages"]:
        lines.append("    " + gettext("time: {stages}", stages=stage_text(work["stages"])))
    if work["results_purged_at"]:
        time = clock(work["results_purged_at"])
        lines.append("    " + gettext("results no longer here since {time}", time=time))
    return lines


def _describe_job(work: dict[str, Any]) -> list[str]:
    of = {key: work[key] for key in ("id", "pipeline", "rule")}
    lines = ["  " + gettext("job {id}: pipeline {pipeline!r} by rule {rule!r}", **of)]
    stage, outcome, cause = work["stage"], work["outcome"], work["shadow"]
    at = gettext(", stage {stage}", stage=gettext(stage)) if work["state"] in ACTIVE else ""
    priority = priority_word(work["priority"])
    if work["state"] in ACTIVE and priority not in ("", "medium"):  # which goes without saying
        at += gettext(", priority {priority}", priority=gettext(priority))
    at += gettext(", outcome {outcome}", outcome=gettext(outcome)) if outcome else ""
    lines.append(f"    {work['state']}{at}" + (f": {work['reason']}" if work["reason"] else ""))
    if work["urgent"]:
        lines.append("    " + gettext("urgent: {why}", why=work["urgent"]))
    if work["error"]:
        lines.append("    " + gettext("last error: {error}", error=work["error"]))
    if work["next_at"]:
        number, time = work["attempt"] + 1, clock(work["next_at"])
        lines.append("    " + gettext("attempt {number} at {time}", number=number, time=time))
    if work["after"]:
        lines.append("    " + gettext("runs after pipeline {after!r}, with its result", after=work["after"]))
    lines += _describe_time(work)
    if cause:
        text = marked("in shadow ({cause}): its results are kept here and sent to no destination")
        lines.append("    " + gettext(text, cause=gettext(cause)))
    lines += _describe_results(work["results"])
    for sent in work["deliveries"]:
        lines += _describe_delivery(sent, work["outdated"].get(sent["destination"]))
    return lines


def _describe_delivery(sent: Mapping[str, Any], changed: str | None) -> Iterator[str]:
    stored, number = sum(is_stored(i["status"]) for i in sent["instances"]), len(sent["instances"])
    how_many = gettext("{stored} of {number} stored", stored=stored, number=number) if number else gettext("not begun")
    values = {"destination": sent["destination"], "state": sent["state"], "how_many": how_many}
    yield "    " + gettext("delivery to {destination}: {state}, {how_many}", **values)
    if changed is not None:
        yield "      " + gettext(
            "IDENTITY CHANGED: the images were received again with different {changed}; these results name the old one",
            changed=changed,
        )
    answers = Counter((i["status"], i["comment"]) for i in sent["instances"] if i["status"] != 0x0000)
    for (status, comment), count in answers.items():
        answer = gettext("nothing") if status is None else f"0x{status:04X}"
        yield "      " + gettext("{count} answered {answer}: {comment}", count=count, answer=answer, comment=comment)
    if sent["error"]:
        again = clock(sent["next_at"])
        yield "      " + gettext("last error: {error}; next try {time}", error=sent["error"], time=again)
