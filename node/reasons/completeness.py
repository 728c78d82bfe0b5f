"""How reasons read that are about the completeness of a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.reasons.codes import ReasonCode, Text
from node.wording import count_of


def _quiet(values: Mapping[str, Any]) -> str:
    expired = [f"; {one['about']} even after {one['seconds']:g} s" for one in values["expired"]]
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


def _incomplete(values: Mapping[str, Any]) -> str:
    """What is known to be missing, for a radiologist."""
    counts = [f"{values[name]} {how}" for name, how in _NOT_USED.items() if values[name]]
    first = ", ".join((f"{count_of(values['images'], 'image')} received", *counts))
    sentences = [*values["lacking"]]
    if values["broke_off"]:
        sentences.append("the sender broke off in the middle of the transfer")
    if values["rejected"]:
        sentences.append("the sender was turned away in the middle of the transfer")
    return "; ".join((f"{first}: {values['unseen']}" if values["unseen"] else first, *sentences))


def _incomplete_companions(values: Mapping[str, Any]) -> str:
    of = (f"companion series {name}: {missing}" for name, missing in values["companions"].items())
    return "; ".join(filter(None, (values["own"], *of)))


def _caveat(values: Mapping[str, Any]) -> str:
    """What may be missing, in sentences for a radiologist."""
    sentences = []
    if values["broke_off"]:
        sentences.append("The sender broke off; the series may be incomplete.")
    if values["in_progress"]:
        sentences.append("The scanner has not reported the end of the acquisition; the series may be incomplete.")
    if values["changed"]:
        again = count_of(values["changed"], "image")
        sentences.append(f"{again} received again with different content; the first version was analysed.")
    return " ".join(sentences)


def _caveat_companions(values: Mapping[str, Any]) -> str:
    of = (f"Companion series {name}: {caveat}" for name, caveat in values["companions"].items())
    return " ".join(filter(None, (values["own"], *of)))


_NOT_USED = {
    "refused": "refused",
    "cut_off": "cut off in transfer",
    "collided": "not used because the UID was that of another image",
    "unreadable": "unreadable",
}
_AMID = {
    "message": "in the middle of a message",
    "refusal": "right after a refusal",
    None: "between two messages",
}
TEXTS: Mapping[ReasonCode, Text] = {
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
    ReasonCode.INCOMPLETE: _incomplete,
    ReasonCode.INCOMPLETE_COMPANIONS: _incomplete_companions,
    ReasonCode.CAVEAT: _caveat,
    ReasonCode.CAVEAT_COMPANIONS: _caveat_companions,
}
