"""How reasons read that are about decisions of the router and the selection among the series of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.reasons.codes import ReasonCode, Text
from node.translation import decimal, gettext, marked
from node.wording import written


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, values["rules"]))


def _only_companion(values: Mapping[str, Any]) -> str:
    return gettext(
        "only looked at with others: {companions}",
        companions=", ".join(
            gettext("{name!r} of {rule!r}", name=name, rule=rule) for name, rule in values["companions"]
        ),
    )


def _contradiction(values: Mapping[str, Any]) -> str:
    keywords, others = ", ".join(values["keywords"]), values.get("others", ())  # not in a ledger of version 1.0.0
    named = ", ".join([*others, *(["..."] if len(others) < values.get("number", 0) else [])])
    who = (
        gettext(
            " ({number} of {of} differ from the others: {named})", number=values["number"], of=values["of"], named=named
        )
        if others
        else ""
    )
    return gettext(
        "its images contradict one another on {keywords}{who}; nothing of it is analysed or sent on",
        keywords=keywords,
        who=who,
    )


def _chosen(values: Mapping[str, Any]) -> str:
    parts = []
    if values["series"] is not None:
        parts.append(
            gettext("the best of {series} series", series=values["series"])
            + (f" ({values['because']})" if values["because"] else "")
        )
    parts += [gettext("series {uid} was chosen before this one came", uid=uid) for uid in values["before"]]
    for name, uid in values["companions"].items():
        parts.append(
            gettext("{name!r} is series {uid}", name=name, uid=uid) if uid else _absent(name, values["seconds"])
        )
    return "; ".join(parts)


def _returned(values: Mapping[str, Any]) -> str:
    destination, jobs, late = values["destination"], values["jobs"], values.get("late", ())
    if len(jobs) > 1:
        text = gettext(
            "it came back from {destination} about several series, each of which has a job that reads its part: {jobs}",
            destination=destination,
            jobs=", ".join(jobs),
        )
    elif late:
        text = gettext("it came back from {destination}", destination=destination)
    else:
        text = gettext("it came back from {destination}, and job {job} reads it", destination=destination, job=jobs[0])
    for job in late:
        text += gettext("; job {job} had read the others before it came, `ainode retry {job}` reads them all", job=job)
    if values["unread"]:
        text += gettext(
            "; {number} of its parts are not read, as they lie in the frame of reference of no series that they name",
            number=values["unread"],
        )
    return text


def _about_others(values: Mapping[str, Any]) -> str:
    destination, number = values["destination"], values["number"]
    if not number:
        return gettext(
            "it came back from {destination} and names none of the series that were sent there", destination=destination
        )
    return gettext(
        "it came back from {destination}, names {number} of the series that were sent there, and lies in the frame of "
        "reference of none of them: on which one it belongs cannot be known",
        destination=destination,
        number=number,
    )


def _absent(name: str, seconds: float) -> str:
    return gettext("{name!r} did not come within {seconds:g} s", name=name, seconds=seconds)


def _companions_absent(values: Mapping[str, Any]) -> str:
    return "; ".join(
        gettext("series {absent}", absent=_absent(name, values["seconds"])) for name in values["companions"]
    )


def _thickness(values: Mapping[str, Any]) -> str:
    return (
        gettext("no slice thickness")
        if values["mm"] is None
        else gettext("{thickness} mm slices", thickness=decimal(written(values["mm"])))
    )


def _step_completed(values: Mapping[str, Any]) -> str:
    return gettext(
        "all series that the COMPLETED procedure step of {calling_aes} names are here",
        calling_aes=", ".join(values["calling_aes"]),
    )


def _study_quiet(values: Mapping[str, Any]) -> str:
    although = gettext(", although {although}", although=values["although"]) if values["although"] else ""
    return gettext("no image of the study for {seconds:g} s{although}", seconds=values["seconds"], although=although)


TEXTS: Mapping[ReasonCode, Text] = {
    ReasonCode.MATCHES: lambda values: gettext("matches {rules}", rules=_names(values)),
    ReasonCode.SENT_ON_ONLY: marked("{routed}; not analysed: {why}"),
    ReasonCode.WAITS_FOR_STUDY: lambda values: gettext(
        "for other series of the study, by {rules}", rules=_names(values)
    ),
    ReasonCode.ONLY_BACK: marked("it would only be sent back to where it came from"),
    ReasonCode.ANOTHER_CHOSEN: lambda values: gettext(
        "another series of the study was chosen by {rules}", rules=_names(values)
    ),
    ReasonCode.ONLY_COMPANION: _only_companion,
    ReasonCode.NO_RULE: marked("no rule matches"),
    ReasonCode.AI_RESULT: marked("it is a result of an AI node ({mark})"),
    ReasonCode.OWN_RESULT: marked("it is a result of this node"),
    ReasonCode.ASKED_FOR_VERDICTS: marked("the node has asked the archive for it, to read verdicts in it"),
    ReasonCode.RETURNED: _returned,
    ReasonCode.RETURNED_LATER: _returned,
    ReasonCode.RETURNED_ABOUT_OTHERS: _about_others,
    ReasonCode.RETURNED_AWAITED: marked("other results of its study are arriving"),
    ReasonCode.NO_IMAGES: marked("its objects are no images"),
    ReasonCode.LOCALIZER: marked("it is a localizer (ImageType)"),
    ReasonCode.SECONDARY_CAPTURE: marked("its images are secondary captures"),
    ReasonCode.NO_FILES: marked("it has no files"),
    ReasonCode.IMAGES_PURGED: marked(
        "retention has purged {purged} images of it, and {images} are here; send the whole series again"
    ),
    ReasonCode.NO_READABLE_FILE: marked("none of its files can be read: {explanation}"),
    ReasonCode.HEADERS_REFUSED: marked("its headers cannot be read: {explanation}"),
    ReasonCode.HEADERS_NOT_UNDERSTOOD: marked("its headers cannot be understood ({error})"),
    ReasonCode.CONTRADICTION: _contradiction,
    ReasonCode.OF_DISCONTINUED_STEP: marked("{step} made it"),
    ReasonCode.STEP_DISCONTINUED: marked("{calling_ae} discontinued the procedure step"),
    ReasonCode.RULE_REMOVED: marked("not chosen: the rule is no longer in config.toml"),
    ReasonCode.WORSE: marked("not chosen: series {best} has {better}, this one {worse}"),
    ReasonCode.CHOSEN: _chosen,
    ReasonCode.COMPANIONS_ABSENT: _companions_absent,
    ReasonCode.PREFERRED: lambda values: gettext(
        "a preferred {attributes}", attributes=gettext(" and ").join(values["attributes"])
    ),
    ReasonCode.NOT_PREFERRED: lambda values: gettext(
        "another {attributes}", attributes=gettext(" and ").join(values["attributes"])
    ),
    ReasonCode.IMAGES: marked("{images} images"),
    ReasonCode.SLICE_THICKNESS: _thickness,
    ReasonCode.PLANE: marked("{plane} slices"),
    ReasonCode.SERIES_NUMBER: lambda values: gettext(
        "series number {number}", number=values["number"] or gettext("(none)")
    ),
    ReasonCode.LOWER_UID: marked("a lower Series Instance UID"),
    ReasonCode.HIGHER_UID: marked("a higher one"),
    ReasonCode.SERIES_RECEIVING: marked("{series} series of the study are being received"),
    ReasonCode.STEP_COMPLETED: _step_completed,
    ReasonCode.STUDY_SILENT: marked("last image of the study {silence:.0f} s ago, waiting for {seconds:g} s"),
    ReasonCode.STUDY_QUIET: _study_quiet,
}
