"""The sentences of the timeline: what an event says to an administrator, made when it is shown.

Each kind has a heading and a detail, as templates over the columns and parameters of the event; to translate the
timeline is to translate this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from node.ledger.events import EventKind as Kind
from node.reasons import deferrals_text, reason_text
from node.wording import timings_text

_Text = str | Callable[[Mapping[str, Any]], str]


def event_text(row: Mapping[str, Any]) -> tuple[str, str]:
    """Heading and detail of a row of ``event``; the detail may be empty."""
    values = {**row["parameters"], **{name: value for name, value in row.items() if name != "parameters"}}
    if isinstance(values.get("reason"), Mapping):
        values["reason"] = reason_text(values["reason"])
    heading, detail = _TEXTS[Kind(row["kind"])]
    return _fill(heading, values), _fill(detail, values)


def _fill(text: _Text, values: Mapping[str, Any]) -> str:
    return text.format_map(values) if isinstance(text, str) else text(values)


def _attempt(values: Mapping[str, Any]) -> str:
    """Seconds, destination and number of an attempt, as far as they say anything."""
    parts = [] if values["seconds"] is None else [f"{values['seconds']:.2f} s"]
    parts += [values["destination"]] if values["destination"] else []
    parts += [f"attempt {values['attempt']}"] if values["attempt"] > 1 else []
    return ", ".join(parts)


def _failed(values: Mapping[str, Any]) -> str:
    return f"{_attempt(values)}: {values['error']}"


def _recovered(values: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (f"{values['stage']} was in no queue", _attempt(values))))


def _sender(values: Mapping[str, Any]) -> str:
    return f"from {values['sender']}" if values["sender"] else "found in the spool"


def _first(values: Mapping[str, Any]) -> str:
    return f"first image {_sender(values)}"


def _late(values: Mapping[str, Any]) -> str:
    return f"{values['images']} image(s) {_sender(values)}; the series is open again"


def _replaced(values: Mapping[str, Any]) -> str:
    return f"the file of {values['sop_instance_uid']} was lost; now from {values['sender'] or 'the spool'}"


def _deferrals(values: Mapping[str, Any]) -> str:
    return deferrals_text(values["deferrals"]) if "deferrals" in values else str(values["awaited"])


def _signal(values: Mapping[str, Any]) -> str:
    return reason_text(values["signal"])


def _disregarded(values: Mapping[str, Any]) -> str:
    signal = reason_text(values["signal"])
    return f"{signal} does not count: another device sent the images; if it is the same one, give both a group"


def _rule_waiting(values: Mapping[str, Any]) -> str:
    return f"rule {values['rule']!r}: {reason_text(values['awaited'])}"


def _procedure_step(values: Mapping[str, Any]) -> str:
    produced = f": {values['images']} images in {values['series']} series" if values["series"] is not None else ""
    return f"{values['modality']} at {values['calling_ae']}{produced}"


def _outcome(values: Mapping[str, Any]) -> str:
    return f"{values['outcome']}: {values['reason']}" if values["reason"] else str(values["outcome"])


def _timings(values: Mapping[str, Any]) -> str:
    return timings_text(values["timings"], values["peak_memory_mib"], values["device"])


def _withheld(values: Mapping[str, Any]) -> str:
    if not values["kinds"]:
        return "all but the report, which is of UIDs and identity only"
    return f"Not sent: {', '.join(values['kinds'])} ({values['error']})"


def _retracted(values: Mapping[str, Any]) -> str:
    return f"{values['reason']}; to {', '.join(values['destinations'])}"


def _shadow(values: Mapping[str, Any]) -> str:
    why = f": {values['reason']}" if values["reason"] else ""
    return f"sent to no destination ({values['cause']}){why}"


def _verdicts(values: Mapping[str, Any]) -> str:
    return f"{values['source']}: " + ", ".join(f"{number} {name}" for name, number in values["verdicts"].items())


_TEXTS: Mapping[Kind, tuple[_Text, _Text]] = {
    Kind.RECEIVING: ("receiving", _first),
    Kind.LATE_IMAGES: ("late image", _late),
    Kind.FILE_REPLACED: ("received again", _replaced),
    Kind.CONFLICT: (
        "conflict",
        "SOP Instance {sop_instance_uid} was received again with different content; kept as {path}",
    ),
    Kind.IMAGES_CHANGED: (
        "{change} changed",
        "{images} image(s) received again with different {keywords}; kept in addition to the first, which count",
    ),
    Kind.IDENTITY_CORRECTED: (
        "identity corrected",
        "its images were received again with different {keywords}; the new identity counts, the old files are kept",
    ),
    Kind.LATE_REFUSAL: ("late refusal", "an image of it was refused; the series is open again"),
    Kind.PROCEDURE_STEP: ("procedure step {state}", _procedure_step),
    Kind.SERIES_WAITING: ("waiting", _deferrals),
    Kind.SERIES_COMPLETE: ("complete", _signal),
    Kind.SIGNAL_DISREGARDED: ("signal disregarded", _disregarded),
    Kind.RULE_WAITING: ("waiting", _rule_waiting),
    Kind.DECIDED: ("{outcome}", "{reason}"),
    Kind.BETTER_SERIES: ("better series", "a better series of rule {rule!r} came later: {better}"),
    Kind.REROUTED: ("rerouted", "the present rules decide again on a series that was ignored"),
    Kind.JOB_SCHEDULED: ("job scheduled", "pipeline {pipeline} by rule {rule}"),
    Kind.ATTEMPT_STARTED: ("{stage} started", _attempt),
    Kind.ATTEMPT_FINISHED: ("{stage} finished", _attempt),
    Kind.ATTEMPT_FAILED: ("{stage} failed", _failed),
    Kind.JOB_RECOVERED: ("job recovered", _recovered),
    Kind.INFER_TIMINGS: ("infer timings", _timings),
    Kind.OUTCOME: ("outcome", _outcome),
    Kind.RESULTS_REFUSED: ("{stage} failed", "{error}"),
    Kind.OBJECTS_WITHHELD: ("objects withheld", _withheld),
    Kind.JOB_COMPLETED: ("job completed", ""),
    Kind.JOB_CANCELED: ("job canceled", "{reason}"),
    Kind.JOB_RETRIED: ("job retried", "from {stage}"),
    Kind.JOB_RETRACTED: ("job retracted", _retracted),
    Kind.OPERATOR_ACTED: ("operator", "{operator} {action} the job"),
    Kind.DELIVERY_STORED: ("delivery stored", "{destination}: {instances} instances"),
    Kind.DELIVERY_CONFIRMED: ("delivery confirmed", "{destination}: {instances} instances"),
    Kind.DELIVERY_OVERDUE: ("delivery overdue", "{destination}"),
    Kind.DELIVERY_REOPENED: ("delivery reopened", "{destination} lost {objects} objects"),
    Kind.RESULTS_WITHDRAWN: ("replaced results withdrawn", "{destination}: a note on {objects} objects"),
    Kind.RESULTS_NOT_WITHDRAWN: ("replaced results not withdrawn", "{destination}: {reason}"),
    Kind.VERDICTS: ("verdicts of a reader", _verdicts),
    Kind.ATTEMPT_YIELDED: ("{stage} yielded", "to a job whose results are sent; it begins again later"),
    Kind.KEPT_IN_SHADOW: ("kept in shadow", _shadow),
    Kind.IMAGE_EXCLUDED: ("image excluded", "{sop_instance_uid}, by {who}: {why}; the router decides again"),
    Kind.IMAGE_INCLUDED: ("image included", "{sop_instance_uid}, by {who}; the router decides again"),
    Kind.NO_VERDICT: ("no verdict", "{sop_instance_uid}: {reason}"),
}
