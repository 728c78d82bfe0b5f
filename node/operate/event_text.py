"""The sentences of the timeline: what an event says to an administrator, made when it is shown.

Each kind has a heading and a detail, as templates over the columns and parameters of the event;
``node.translation`` has them in other languages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from node.ledger.events import EventKind as Kind
from node.ledger.states import WorklistState
from node.reasons import deferrals_text, reason_text
from node.translation import decimal, gettext, marked, ngettext
from node.wording import timings_text

_Text = str | Callable[[Mapping[str, Any]], str]


def event_text(row: Mapping[str, Any]) -> tuple[str, str]:
    """Heading and detail of a row of ``event``; the detail may be empty."""
    values = {**row["parameters"], **{name: value for name, value in row.items() if name != "parameters"}}
    if isinstance(values.get("reason"), Mapping):
        values["reason"] = reason_text(values["reason"])
    heading, detail = _TEXTS[Kind(row["kind"])]
    words = {name: gettext(str(values[name])) for name in ("stage", "change", "outcome", "action") if values.get(name)}
    return _fill(heading, values | words), _fill(detail, values | words)


def _fill(text: _Text, values: Mapping[str, Any]) -> str:
    return gettext(text).format_map(values) if isinstance(text, str) else text(values)


def _attempt(values: Mapping[str, Any]) -> str:
    """Seconds, destination and number of an attempt, as far as they say anything."""
    parts = [] if values["seconds"] is None else [decimal(f"{values['seconds']:.2f} s")]
    parts += [values["destination"]] if values["destination"] else []
    parts += [gettext("attempt {number}", number=values["attempt"])] if values["attempt"] > 1 else []
    return ", ".join(parts)


def _failed(values: Mapping[str, Any]) -> str:
    return f"{_attempt(values)}: {values['error']}"


def _recovered(values: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (gettext("{stage} was in no queue", stage=values["stage"]), _attempt(values))))


def _priority(values: Mapping[str, Any]) -> str:
    priority = gettext(values["priority"])
    if not values["operator"]:
        return gettext("to {priority}", priority=priority)
    return gettext("to {priority} by {operator}", priority=priority, operator=values["operator"])


def _sender(values: Mapping[str, Any]) -> str:
    return gettext("from {sender}", sender=values["sender"]) if values["sender"] else gettext("found in the spool")


def _first(values: Mapping[str, Any]) -> str:
    return gettext("first image {sender}", sender=_sender(values))


def _late(values: Mapping[str, Any]) -> str:
    return gettext(
        "{images} image(s) {sender}; the series is open again", images=values["images"], sender=_sender(values)
    )


def _replaced(values: Mapping[str, Any]) -> str:
    return gettext(
        "the file of {uid} was lost; now from {sender}",
        uid=values["sop_instance_uid"],
        sender=values["sender"] or gettext("the spool"),
    )


def _deferrals(values: Mapping[str, Any]) -> str:
    return deferrals_text(values["deferrals"]) if "deferrals" in values else str(values["awaited"])


def _signal(values: Mapping[str, Any]) -> str:
    return reason_text(values["signal"])


def _disregarded(values: Mapping[str, Any]) -> str:
    signal = reason_text(values["signal"])
    return gettext(
        "{signal} does not count: another device sent the images; if it is the same one, give both a group",
        signal=signal,
    )


def _rule_waiting(values: Mapping[str, Any]) -> str:
    return gettext("rule {rule!r}: {awaited}", rule=values["rule"], awaited=reason_text(values["awaited"]))


def _procedure_step(values: Mapping[str, Any]) -> str:
    produced = (
        gettext(": {images} images in {series} series", images=values["images"], series=values["series"])
        if values["series"] is not None
        else ""
    )
    of = gettext("{modality} at {calling_ae}", modality=values["modality"], calling_ae=values["calling_ae"])
    return f"{of}{produced}"


def _outcome(values: Mapping[str, Any]) -> str:
    return f"{values['outcome']}: {values['reason']}" if values["reason"] else str(values["outcome"])


def _timings(values: Mapping[str, Any]) -> str:
    return timings_text(values["timings"], values["peak_memory_mib"], values["device"])


def _withheld(values: Mapping[str, Any]) -> str:
    if not values["kinds"]:
        return gettext("all but the report, which is of UIDs and identity only")
    return gettext("Not sent: {kinds} ({error})", kinds=", ".join(values["kinds"]), error=values["error"])


def _retracted(values: Mapping[str, Any]) -> str:
    return gettext(
        "{reason}; to {destinations}", reason=values["reason"], destinations=", ".join(values["destinations"])
    )


def _shadow(values: Mapping[str, Any]) -> str:
    why = f": {values['reason']}" if values["reason"] else ""
    return gettext("sent to no destination ({cause}){why}", cause=gettext(str(values["cause"])), why=why)


def _late_order(values: Mapping[str, Any]) -> str:
    order = " ".join(filter(None, (values["priority"], values["procedure_code"])))
    if values["canceled"]:
        return gettext("{order}: canceled after the decision, which stays", order=order)
    if values["series"]:
        return ngettext(
            "{order}: {number} ignored series is decided on again",
            "{order}: {number} ignored series are decided on again",
            values["series"],
            order=order,
        )
    return gettext("{order}: came after the decision; jobs and their priority stay as they are", order=order)


def _worklist(values: Mapping[str, Any]) -> str:
    if values["state"] == WorklistState.FOUND:
        return gettext("the order is known")
    return gettext("no order: {reason}", reason=values["reason"])


def _verdicts(values: Mapping[str, Any]) -> str:
    return f"{gettext(str(values['source']))}: " + ", ".join(
        f"{number} {gettext(name)}" for name, number in values["verdicts"].items()
    )


_TEXTS: Mapping[Kind, tuple[_Text, _Text]] = {
    Kind.RECEIVING: (marked("receiving"), _first),
    Kind.LATE_IMAGES: (marked("late image"), _late),
    Kind.FILE_REPLACED: (marked("received again"), _replaced),
    Kind.CONFLICT: (
        marked("conflict"),
        marked("SOP Instance {sop_instance_uid} was received again with different content; kept as {path}"),
    ),
    Kind.IMAGES_CHANGED: (
        marked("{change} changed"),
        marked(
            "{images} image(s) received again with different {keywords}; kept in addition to the first, which count"
        ),
    ),
    Kind.IDENTITY_CORRECTED: (
        marked("identity corrected"),
        marked(
            "its images were received again with different {keywords}; the new identity counts, the old files are kept"
        ),
    ),
    Kind.LATE_REFUSAL: (marked("late refusal"), marked("an image of it was refused; the series is open again")),
    Kind.PROCEDURE_STEP: (marked("procedure step {state}"), _procedure_step),
    Kind.STUDY_CONTENT: (marked("study content"), marked("{calling_ae} names {images} images in {series} series")),
    Kind.AVAILABILITY: (marked("instances available"), marked("{calling_ae} names {images} images in {series} series")),
    Kind.SERIES_WAITING: (marked("waiting"), _deferrals),
    Kind.SERIES_COMPLETE: (marked("complete"), _signal),
    Kind.SIGNAL_DISREGARDED: (marked("signal disregarded"), _disregarded),
    Kind.RULE_WAITING: (marked("waiting"), _rule_waiting),
    Kind.DECIDED: (marked("{outcome}"), marked("{reason}")),
    Kind.BETTER_SERIES: (marked("better series"), marked("a better series of rule {rule!r} came later: {better}")),
    Kind.REROUTED: (marked("rerouted"), marked("the present rules decide again on a series that was ignored")),
    Kind.JOB_SCHEDULED: (marked("job scheduled"), marked("pipeline {pipeline} by rule {rule}")),
    Kind.ATTEMPT_STARTED: (marked("{stage} started"), _attempt),
    Kind.ATTEMPT_FINISHED: (marked("{stage} finished"), _attempt),
    Kind.ATTEMPT_FAILED: (marked("{stage} failed"), _failed),
    Kind.JOB_RECOVERED: (marked("job recovered"), _recovered),
    Kind.INFER_TIMINGS: (marked("infer timings"), _timings),
    Kind.OUTCOME: (marked("outcome"), _outcome),
    Kind.RESULTS_REFUSED: (marked("{stage} failed"), marked("{error}")),
    Kind.OBJECTS_WITHHELD: (marked("objects withheld"), _withheld),
    Kind.ESCALATED: (marked("urgent"), marked("{reason}")),
    Kind.JOB_COMPLETED: (marked("job completed"), ""),
    Kind.JOB_CANCELED: (marked("job canceled"), marked("{reason}")),
    Kind.JOB_RETRIED: (marked("job retried"), marked("from {stage}")),
    Kind.JOB_RETRACTED: (marked("job retracted"), _retracted),
    Kind.PRIORITY_CHANGED: (marked("priority changed"), _priority),
    Kind.OPERATOR_ACTED: (marked("operator"), marked("{operator} {action} the job")),
    Kind.DELIVERY_STORED: (marked("delivery stored"), marked("{destination}: {instances} instances")),
    Kind.DELIVERY_CONFIRMED: (marked("delivery confirmed"), marked("{destination}: {instances} instances")),
    Kind.DELIVERY_OVERDUE: (marked("delivery overdue"), marked("{destination}")),
    Kind.DELIVERY_REOPENED: (marked("delivery reopened"), marked("{destination} lost {objects} objects")),
    Kind.RESULTS_WITHDRAWN: (
        marked("replaced results withdrawn"),
        marked("{destination}: a note on {objects} objects"),
    ),
    Kind.RESULTS_NOT_WITHDRAWN: (marked("replaced results not withdrawn"), marked("{destination}: {reason}")),
    Kind.VERDICTS: (marked("verdicts of a reader"), _verdicts),
    Kind.ATTEMPT_YIELDED: (marked("{stage} yielded"), marked("to a job whose results are sent; it begins again later")),
    Kind.KEPT_IN_SHADOW: (marked("kept in shadow"), _shadow),
    Kind.IMAGE_EXCLUDED: (
        marked("image excluded"),
        marked("{sop_instance_uid}, by {who}: {why}; the router decides again"),
    ),
    Kind.IMAGE_INCLUDED: (marked("image included"), marked("{sop_instance_uid}, by {who}; the router decides again")),
    Kind.IMAGES_PURGED: (marked("images purged"), marked("{images} images of the series, by retention")),
    Kind.RESULTS_PURGED: (marked("results purged"), marked("{objects} objects, by retention")),
    Kind.RESULTS_LOST: (marked("results lost"), marked("{objects} objects, with the disk of machine {machine}")),
    Kind.LATE_ORDER: (marked("order"), _late_order),
    Kind.WORKLIST: (marked("worklist"), _worklist),
    Kind.REQUESTED: (marked("requested"), marked("{pipeline}, by {requester} (workitem {uid})")),
    Kind.NO_VERDICT: (marked("no verdict"), marked("{sop_instance_uid}: {reason}")),
}
