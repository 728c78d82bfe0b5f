"""Statements without a location: present in the images, absent, or indeterminate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.translation import decimal, gettext

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
    operating_point: tuple[float, float] | None = None
    """Probabilities below which it is absent and from which on it is present; between the two it is indeterminate."""

    @classmethod
    def at(
        cls, finding: Code, probability: float, *, present_from: float, absent_below: float | None = None
    ) -> Assertion:
        """Return what a probability means at an operating point; ``absent_below``: ``present_from`` when left out."""
        low = present_from if absent_below is None else absent_below
        presence: Presence = (
            "absent" if probability < low else "present" if probability >= present_from else "indeterminate"
        )
        return cls(
            finding=finding, presence=presence, probability=float(probability), operating_point=(low, present_from)
        )

    def __post_init__(self) -> None:
        if self.presence not in get_args(Presence):
            raise ValueError(f"Assertion.presence is {self.presence!r}; use one of {', '.join(get_args(Presence))}")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"Assertion.probability is {self.probability}; use 0 to 1")
        if self.operating_point is not None and not 0 <= self.operating_point[0] <= self.operating_point[1] <= 1:
            raise ValueError(f"Assertion.operating_point is {self.operating_point}; use two ascending values of 0 to 1")

    def in_words(self, in_words: Callable[[str], str] = str) -> str:
        """State it in one sentence, for example ``Hemorrhage: present.`` with probability and operating point.

        ``in_words``: the meaning of a code in the language that is spoken.
        """
        parts = [] if self.probability is None else [gettext("probability {share}", share=_percent(self.probability))]
        if self.operating_point is not None:
            low, high = self.operating_point
            parts.append(gettext("present from {share}", share=_percent(high)))
            parts += [gettext("absent below {share}", share=_percent(low))] if low < high else []
        certainty = f" ({', '.join(parts)})" if parts else ""
        return f"{in_words(self.finding.meaning)}: {gettext(self.presence)}{certainty}."


def _percent(share: float) -> str:
    return decimal(f"{100 * share:.3g} %")


def presence_of(value: Code | None) -> Presence | None:
    """What a coded value says about the presence of what it judges; ``None`` when it says nothing about it."""
    if value is None:
        return None
    for presence, known in _VALUES.items():
        if any(value == code for code in known):
            return presence
    return _WORDS.get(value.meaning.strip().lower())
