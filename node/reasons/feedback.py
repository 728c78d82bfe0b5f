"""How reasons read that are about readers' verdicts: objects without one, and what those on a pipeline say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.reasons.codes import ReasonCode, Text
from node.translation import gettext, marked


def _quality_fell(values: Mapping[str, Any]) -> str:
    share = 100 * values["confirmed"] / values["lesions"]
    return gettext(
        "readers confirmed {confirmed} of {lesions} lesions ({share:.0f} %) in the latest {analyses} judged analyses; "
        "{expected:g} % are expected, and the stop rule is for {stop:g} %",
        share=share,
        expected=100 * values["expected_ppv"],
        stop=100 * values["stop_ppv"],
        **{name: values[name] for name in ("confirmed", "lesions", "analyses")},
    )


TEXTS: Mapping[ReasonCode, Text] = {
    ReasonCode.OF_THIS_SOFTWARE: marked("it says that this software made it: a result is no verdict"),
    ReasonCode.OF_AN_ALGORITHM: marked("it says that an algorithm made all of it and names no operator"),
    ReasonCode.OF_ANOTHER_PATIENT: marked("its {keywords} are not those of the images"),
    ReasonCode.OF_OTHER_IMAGES: marked(
        "it refers to no images for which this node had a result with segments at that time"
    ),
    ReasonCode.OF_OTHER_FINDINGS: marked(
        "it neither names nor shows any finding that this node reported on these images"
    ),
    ReasonCode.OF_NO_READER: marked("it is neither verified nor observed by a person"),
    ReasonCode.OF_OTHER_REASON: marked("its title, {title}, does not reject an object for what it shows"),
    ReasonCode.UNKNOWN_ASSESSMENT: marked(
        "it refers to a result of this node, and none of its codes is in [feedback] assessment_codes: {codes}"
    ),
    ReasonCode.QUALITY_FELL: _quality_fell,
    ReasonCode.VERSION_NOT_ACCEPTED: marked(
        "no approved acceptance report of pipeline {pipeline} on version {version} with weights {weights} and these "
        "options"
    ),
    ReasonCode.NO_VERSION_ACCEPTED: marked("no approved acceptance report of pipeline {pipeline} with these options"),
    ReasonCode.UNREADABLE_OBJECT: marked("{explanation}"),
}
