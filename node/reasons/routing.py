"""How reasons read that are about decisions of the router and the selection among the series of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.reasons.codes import ReasonCode, Text
from node.wording import written


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, values["rules"]))


def _only_companion(values: Mapping[str, Any]) -> str:
    return f"only looked at with others: {', '.join(f'{name!r} of {rule!r}' for name, rule in values['companions'])}"


def _contradiction(values: Mapping[str, Any]) -> str:
    keywords, others = ", ".join(values["keywords"]), values.get("others", ())  # not in a ledger of version 1.0.0
    named = ", ".join([*others, *(["..."] if len(others) < values.get("number", 0) else [])])
    who = f" ({values['number']} of {values['of']} differ from the others: {named})" if others else ""
    return f"its images contradict one another on {keywords}{who}; nothing of it is analysed or sent on"


def _chosen(values: Mapping[str, Any]) -> str:
    parts = []
    if values["series"] is not None:
        parts.append(
            f"the best of {values['series']} series" + (f" ({values['because']})" if values["because"] else "")
        )
    parts += [f"series {uid} was chosen before this one came" for uid in values["before"]]
    for name, uid in values["companions"].items():
        parts.append(f"{name!r} is series {uid}" if uid else _absent(name, values["seconds"]))
    return "; ".join(parts)


def _absent(name: str, seconds: float) -> str:
    return f"{name!r} did not come within {seconds:g} s"


def _companions_absent(values: Mapping[str, Any]) -> str:
    return "; ".join(f"series {_absent(name, values['seconds'])}" for name in values["companions"])


def _thickness(values: Mapping[str, Any]) -> str:
    return "no slice thickness" if values["mm"] is None else f"{written(values['mm'])} mm slices"


def _step_completed(values: Mapping[str, Any]) -> str:
    return f"all series that the COMPLETED procedure step of {', '.join(values['calling_aes'])} names are here"


def _study_quiet(values: Mapping[str, Any]) -> str:
    although = f", although {values['although']}" if values["although"] else ""
    return f"no image of the study for {values['seconds']:g} s{although}"


TEXTS: Mapping[ReasonCode, Text] = {
    ReasonCode.MATCHES: lambda values: f"matches {_names(values)}",
    ReasonCode.SENT_ON_ONLY: "{routed}; not analysed: {why}",
    ReasonCode.WAITS_FOR_STUDY: lambda values: f"for other series of the study, by {_names(values)}",
    ReasonCode.ONLY_BACK: "it would only be sent back to where it came from",
    ReasonCode.ANOTHER_CHOSEN: lambda values: f"another series of the study was chosen by {_names(values)}",
    ReasonCode.ONLY_COMPANION: _only_companion,
    ReasonCode.NO_RULE: "no rule matches",
    ReasonCode.AI_RESULT: "it is a result of an AI node ({mark})",
    ReasonCode.OWN_RESULT: "it is a result of this node",
    ReasonCode.ASKED_FOR_VERDICTS: "the node has asked the archive for it, to read verdicts in it",
    ReasonCode.NO_IMAGES: "its objects are no images",
    ReasonCode.LOCALIZER: "it is a localizer (ImageType)",
    ReasonCode.SECONDARY_CAPTURE: "its images are secondary captures",
    ReasonCode.NO_FILES: "it has no files",
    ReasonCode.NO_READABLE_FILE: "none of its files can be read: {explanation}",
    ReasonCode.HEADERS_REFUSED: "its headers cannot be read: {explanation}",
    ReasonCode.HEADERS_NOT_UNDERSTOOD: "its headers cannot be understood ({error})",
    ReasonCode.CONTRADICTION: _contradiction,
    ReasonCode.OF_DISCONTINUED_STEP: "{step} made it",
    ReasonCode.STEP_DISCONTINUED: "{calling_ae} discontinued the procedure step",
    ReasonCode.RULE_REMOVED: "not chosen: the rule is no longer in config.toml",
    ReasonCode.WORSE: "not chosen: series {best} has {better}, this one {worse}",
    ReasonCode.CHOSEN: _chosen,
    ReasonCode.COMPANIONS_ABSENT: _companions_absent,
    ReasonCode.PREFERRED: lambda values: f"a preferred {' and '.join(values['attributes'])}",
    ReasonCode.NOT_PREFERRED: lambda values: f"another {' and '.join(values['attributes'])}",
    ReasonCode.IMAGES: "{images} images",
    ReasonCode.SLICE_THICKNESS: _thickness,
    ReasonCode.PLANE: "{plane} slices",
    ReasonCode.SERIES_NUMBER: lambda values: f"series number {values['number'] or '(none)'}",
    ReasonCode.LOWER_UID: "a lower Series Instance UID",
    ReasonCode.HIGHER_UID: "a higher one",
    ReasonCode.SERIES_RECEIVING: "{series} series of the study are being received",
    ReasonCode.STEP_COMPLETED: _step_completed,
    ReasonCode.STUDY_SILENT: "last image of the study {silence:.0f} s ago, waiting for {seconds:g} s",
    ReasonCode.STUDY_QUIET: _study_quiet,
}
