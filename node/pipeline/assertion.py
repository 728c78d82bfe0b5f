"""Statements without a location: present in the images, absent, or indeterminate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

Presence = Literal["present", "absent", "indeterminate"]

CODES: dict[Presence, Code] = {
    "present": codes.SCT.Present,
    "absent": Code("2667000", "SCT", "Absent"),
    "indeterminate": codes.SCT.Indeterminate,
}
"""As the report states them (SNOMED CT qualifier values)."""
_VALUES: dict[Presence, tuple[Code, ...]] = {
    "present": (CODES["present"], codes.SCT.Yes, codes.SCT.Positive, codes.DCM.Present),
    "absent": (CODES["absent"], codes.SCT.Absent, codes.SCT.No, codes.SCT.Negative, codes.DCM.Absent),
    "indeterminate": (
        CODES["indeterminate"],
        codes.SCT.Equivocal,
        codes.SCT.IndeterminateResult,
        codes.SCT.Undetermined,
        codes.SCT.Unknown,
    ),
}
_WORDS: dict[str, Presence] = {
    "present": "present",
    "yes": "present",
    "positive": "present",
    "detected": "present",
    "absent": "absent",
    "no": "absent",
    "negative": "absent",
    "not detected": "absent",
    "not present": "absent",
    "indeterminate": "indeterminate",
    "equivocal": "indeterminate",
    "inconclusive": "indeterminate",
    "uncertain": "indeterminate",
    "undetermined": "indeterminate",
    "unknown": "indeterminate",
}
"""Meanings of the same values in other coding schemes, RadLex and NCIt among them."""


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """A classifier's statement on the images as a whole, without a mask."""

    finding: Code
    """What it is about, for example ``codes.SCT.Hemorrhage``."""
    presence: Presence
    probability: float | None = None
    """Of the finding being present, 0 to 1, as the algorithm states it."""

    def __post_init__(self) -> None:
        if self.presence not in get_args(Presence):
            raise ValueError(f"Assertion.presence is {self.presence!r}; use one of {', '.join(get_args(Presence))}")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"Assertion.probability is {self.probability}; use 0 to 1")

    def in_words(self) -> str:
        """State it in one sentence, for example ``Hemorrhage: present.`` with the probability in brackets."""
        certainty = "" if self.probability is None else f" (probability {100 * self.probability:.0f} %)"
        return f"{self.finding.meaning}: {self.presence}{certainty}."


def presence_of(value: Code | None) -> Presence | None:
    """What a coded value says about the presence of what it judges; ``None`` when it says nothing about it."""
    if value is None:
        return None
    for presence, known in _VALUES.items():
        if any(value == one for one in known):
            return presence
    return _WORDS.get(value.meaning.strip().lower())
