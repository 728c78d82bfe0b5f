"""How reasons read that are about the completeness of a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.reasons.codes import ReasonCode, Text
from node.translation import gettext, marked, ngettext


def _quiet(values: Mapping[str, Any]) -> str:
    expired = [gettext("; {about} even after {seconds:g} s", **deferral) for deferral in values["expired"]]
    quiet = gettext(
        "{images} images, none for {seconds:g} s, no open association sending it",
        images=values["images"],
        seconds=values["seconds"],
    )
    return "".join((quiet, *expired))


def _procedure_step(values: Mapping[str, Any]) -> str:
    return gettext(
        "the {state} procedure step of {calling_ae}{device}",
        state=values["state"],
        calling_ae=values["calling_ae"],
        device=_device(values),
    )


def _commitment_request(values: Mapping[str, Any]) -> str:
    return gettext(
        "a Storage Commitment request of {calling_ae}{device}", calling_ae=values["calling_ae"], device=_device(values)
    )


def _availability_notification(values: Mapping[str, Any]) -> str:
    return gettext(
        "an Instance Availability Notification of {calling_ae}{device}",
        calling_ae=values["calling_ae"],
        device=_device(values),
    )


def _content_notification(values: Mapping[str, Any]) -> str:
    return gettext(
        "a Study Content Notification of {calling_ae}{device}",
        calling_ae=values["calling_ae"],
        device=_device(values),
    )


def _device(values: Mapping[str, Any]) -> str:
    """The device that sent it, where that is why it does not count."""
    device = values.get("equipment", "") or gettext("unknown device")
    return f" ({device})" if "equipment" in values else ""


def _refused(values: Mapping[str, Any]) -> str:
    return gettext(
        "{images} image(s) of {calling_ae} refused with status {status:04X}: {explanation}",
        **{name: values[name] for name in ("images", "calling_ae", "status", "explanation")},
    )


def _ended(values: Mapping[str, Any]) -> str:
    how, amid = values["how"], _AMID[values["amid"]]
    return gettext(
        "association of {calling_ae} {how} {amid}{together}",
        calling_ae=values["calling_ae"],
        how=gettext(how),
        amid=gettext(amid),
        together=gettext(" with the receiver") if values["with_receiver"] else "",
    )


def _study_step(values: Mapping[str, Any]) -> str:
    step = gettext("the procedure step of {calling_ae} is IN PROGRESS", calling_ae=values["calling_ae"])
    return f"{step}{_series(values)}"


def _study_association(values: Mapping[str, Any]) -> str:
    of = gettext(
        "an association of {calling_ae} that has sent images of the study is open", calling_ae=values["calling_ae"]
    )
    return f"{of}{_series(values)}"


def _series(values: Mapping[str, Any]) -> str:
    """How long a rule waits for another series of the study, while it does."""
    return gettext("; waiting {seconds:g} s for its series", seconds=values["seconds"]) if "seconds" in values else ""


def _incomplete(values: Mapping[str, Any]) -> str:
    """What is known to be missing, for a radiologist."""
    counts = [gettext(how, number=values[name]) for name, how in _NOT_USED.items() if values[name]]
    first = ", ".join((ngettext("{number} image received", "{number} images received", values["images"]), *counts))
    sentences = [*values["lacking"]]
    if values["broke_off"]:
        sentences.append(gettext("the sender broke off in the middle of the transfer"))
    if values["rejected"]:
        sentences.append(gettext("the sender was turned away in the middle of the transfer"))
    return "; ".join((f"{first}: {values['unseen']}" if values["unseen"] else first, *sentences))


def _incomplete_companions(values: Mapping[str, Any]) -> str:
    of = (
        gettext("companion series {name}: {missing}", name=name, missing=missing)
        for name, missing in values["companions"].items()
    )
    return "; ".join(filter(None, (values["own"], *of)))


def _caveat(values: Mapping[str, Any]) -> str:
    """What may be missing, in sentences for a radiologist."""
    sentences = []
    if values["broke_off"]:
        sentences.append(gettext("The sender broke off; the series may be incomplete."))
    if values["in_progress"]:
        sentences.append(
            gettext("The scanner has not reported the end of the acquisition; the series may be incomplete.")
        )
    if values["changed"]:
        sentences.append(
            ngettext(
                "{number} image received again with different content; the first version was analysed.",
                "{number} images received again with different content; the first version was analysed.",
                values["changed"],
            )
        )
    return " ".join(sentences)


def _caveat_companions(values: Mapping[str, Any]) -> str:
    of = (
        gettext("Companion series {name}: {caveat}", name=name, caveat=caveat)
        for name, caveat in values["companions"].items()
    )
    return " ".join(filter(None, (values["own"], *of)))


_NOT_USED = {
    "refused": marked("{number} refused"),
    "cut_off": marked("{number} cut off in transfer"),
    "collided": marked("{number} not used because the UID was that of another image"),
    "unreadable": marked("{number} unreadable"),
}
_AMID = {
    "message": marked("in the middle of a message"),
    "refusal": marked("right after a refusal"),
    None: marked("between two messages"),
}
TEXTS: Mapping[ReasonCode, Text] = {
    ReasonCode.LISTED: marked("{images} images, all that {by} names"),
    ReasonCode.STATED_COUNT: marked("{images} images, as NumberOfSeriesRelatedInstances says"),
    ReasonCode.QUIET_PERIOD: _quiet,
    ReasonCode.LAST_IMAGE: marked("no completion signal"),
    ReasonCode.UNREAD_HEADERS: marked("its headers cannot be read ({explanation})"),
    ReasonCode.BODY_REGION_AWAITED: marked("the region of the body that it shows has not been read in its pixels"),
    ReasonCode.OPEN_ASSOCIATIONS: marked("{associations} open associations have sent images of it"),
    ReasonCode.PROCEDURE_STEP: _procedure_step,
    ReasonCode.COMMITMENT_REQUEST: _commitment_request,
    ReasonCode.AVAILABILITY_NOTIFICATION: _availability_notification,
    ReasonCode.CONTENT_NOTIFICATION: _content_notification,
    ReasonCode.LISTED_ABSENT: marked("{images} images that {by} names are not here"),
    ReasonCode.COUNT_NOT_REACHED: marked("{images} of {stated} images are here"),
    ReasonCode.GAP: marked("{explanation}"),
    ReasonCode.REFUSED: _refused,
    ReasonCode.CUT_OFF: marked("{images} image(s) of {calling_ae} cut off: {explanation}"),
    ReasonCode.COLLIDED: marked("{images} image(s) came under the SOP Instance UID of another image"),
    ReasonCode.ASSOCIATION_ENDED: _ended,
    ReasonCode.ASSOCIATION_REJECTED: marked("{calling_ae} was rejected ({explanation})"),
    ReasonCode.STUDY_STEP: _study_step,
    ReasonCode.STUDY_ASSOCIATION: _study_association,
    ReasonCode.INCOMPLETE: _incomplete,
    ReasonCode.INCOMPLETE_COMPANIONS: _incomplete_companions,
    ReasonCode.CAVEAT: _caveat,
    ReasonCode.CAVEAT_COMPANIONS: _caveat_companions,
}
