"""Reasons of the router as data, and the sentences that show them: why a series is, or is not yet, complete.

The ledger keeps reasons (``event.parameters``, ``series.doubts``); ``reason_text`` puts them into words when they are
shown. To translate them is to translate the table at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

Reason = Mapping[str, Any]
"""``{"code": ReasonCode, **parameters}``: JSON values only; a parameter may be a reason or a list of them."""


class ReasonCode(StrEnum):
    """What a reason is about. Values are stored: a code may be added, but none is renamed."""

    LISTED = "listed"
    STATED_COUNT = "stated count"
    QUIET_PERIOD = "quiet period"
    LAST_IMAGE = "last image"
    OPEN_ASSOCIATIONS = "open associations"
    PROCEDURE_STEP = "procedure step"
    COMMITMENT_REQUEST = "commitment request"
    LISTED_ABSENT = "listed absent"
    COUNT_NOT_REACHED = "count not reached"
    GAP = "gap"
    REFUSED = "refused"
    CUT_OFF = "cut off"
    COLLIDED = "collided"
    ASSOCIATION_ENDED = "association ended"
    ASSOCIATION_REJECTED = "association rejected"
    UNREAD_HEADERS = "unread headers"
    STUDY_STEP = "study step"
    STUDY_ASSOCIATION = "study association"


def reason(code: ReasonCode, **parameters: object) -> Reason:
    """Return a reason with its parameters, which the sentence of the code names."""
    return {"code": code, **parameters}


def reason_text(of: Reason | str) -> str:
    """Return the sentence, or the part of one, that shows a reason; version 1.0.0 kept it as that sentence."""
    if isinstance(of, str):
        return of
    text = _TEXTS[ReasonCode(of["code"])]
    values = {name: reason_text(value) if isinstance(value, Mapping) else value for name, value in of.items()}
    return text.format_map(values) if isinstance(text, str) else text(values)


def deferrals_text(deferrals: Sequence[Mapping[str, Any]]) -> str:
    """Return what a series waits for: ``deferrals`` as ``series.doubts`` has them, those that wait alike together."""
    groups: dict[str, list[str]] = {}
    for one in deferrals:
        awaited = _AWAITED.get(one["about"]["code"], "the missing images")
        how = "" if one["until"] is None else f"; waiting {one['seconds']:g} s for {awaited}"
        groups.setdefault(how, []).append(reason_text(one["about"]))
    return "; ".join("; ".join(texts) + how for how, texts in groups.items())


def _quiet(values: Mapping[str, Any]) -> str:
    expired = [f"; {reason_text(one['about'])} even after {one['seconds']:g} s" for one in values["expired"]]
    quiet = f"{values['images']} images, none for {values['seconds']:g} s, no open association sending it"
    return "".join((quiet, *expired))


def _procedure_step(values: Mapping[str, Any]) -> str:
    return f"the {values['state']} procedure step of {values['calling_ae']}{_device(values)}"


def _commitment_request(values: Mapping[str, Any]) -> str:
    return f"a Storage Commitment request of {values['calling_ae']}{_device(values)}"


def _device(values: Mapping[str, Any]) -> str:
    """The device that sent it, where that is why it does not count."""
    return f" ({values['equipment'] or 'unknown device'})" if "equipment" in values else ""


def _refused(values: Mapping[str, Any]) -> str:
    how = f"refused with status {values['status']:04X}: {values['explanation']}"
    return f"{values['images']} image(s) of {values['calling_ae']} {how}"


def _ended(values: Mapping[str, Any]) -> str:
    together = " with the receiver" if values["with_receiver"] else ""
    return f"association of {values['calling_ae']} {values['how']} {_AMID[values['amid']]}{together}"


def _study_step(values: Mapping[str, Any]) -> str:
    return f"the procedure step of {values['calling_ae']} is IN PROGRESS{_series(values)}"


def _study_association(values: Mapping[str, Any]) -> str:
    of = f"an association of {values['calling_ae']} that has sent images of the study"
    return f"{of} is open{_series(values)}"


def _series(values: Mapping[str, Any]) -> str:
    """How long a rule waits for another series of the study, while it does."""
    return f"; waiting {values['seconds']:g} s for its series" if "seconds" in values else ""


_AMID = {
    "message": "in the middle of a message",
    "refusal": "right after a refusal",
    None: "between two messages",
}
_AWAITED = {
    ReasonCode.LAST_IMAGE: "more images",
    ReasonCode.PROCEDURE_STEP: "its end",
    ReasonCode.UNREAD_HEADERS: "the next attempt",
    ReasonCode.ASSOCIATION_ENDED: "the sender",
    ReasonCode.ASSOCIATION_REJECTED: "the sender",
}
_TEXTS: Mapping[ReasonCode, str | Callable[[Mapping[str, Any]], str]] = {
    ReasonCode.LISTED: "{images} images, all that {by} names",
    ReasonCode.STATED_COUNT: "{images} images, as NumberOfSeriesRelatedInstances says",
    ReasonCode.QUIET_PERIOD: _quiet,
    ReasonCode.LAST_IMAGE: "no completion signal",
    ReasonCode.UNREAD_HEADERS: "its headers cannot be read ({explanation})",
    ReasonCode.OPEN_ASSOCIATIONS: "{associations} open associations have sent images of it",
    ReasonCode.PROCEDURE_STEP: _procedure_step,
    ReasonCode.COMMITMENT_REQUEST: _commitment_request,
    ReasonCode.LISTED_ABSENT: "{images} images that {by} names are not here",
    ReasonCode.COUNT_NOT_REACHED: "{images} of {stated} images are here",
    ReasonCode.GAP: "{explanation}",
    ReasonCode.REFUSED: _refused,
    ReasonCode.CUT_OFF: "{images} image(s) of {calling_ae} cut off: {explanation}",
    ReasonCode.COLLIDED: "{images} image(s) came under the SOP Instance UID of another image",
    ReasonCode.ASSOCIATION_ENDED: _ended,
    ReasonCode.ASSOCIATION_REJECTED: "{calling_ae} was rejected ({explanation})",
    ReasonCode.STUDY_STEP: _study_step,
    ReasonCode.STUDY_ASSOCIATION: _study_association,
}
