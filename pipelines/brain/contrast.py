"""Header check: whether a series is a T1-weighted 3D gradient echo of an adult without contrast agent."""

from __future__ import annotations

import re
from typing import Any

from node.pipeline import Series, sentence

LONGEST_ECHO_MS = 8.0
"""T1-weighted 3D gradient echoes have 2 to 5 ms; spin echoes, T2 and FLAIR have more than 8."""
LONGEST_INVERSION_MS = 1400.0
"""MPRAGE has 600 to 1200 ms; FLAIR has 1700 and more."""
THICKEST_MM = 1.6
ADULT_YEARS = 18
_OTHER = re.compile(
    r"t2|flair|swi|dwi|adc|diff|tof|angio|mra|mrv|mip|pd|phase|mp2rage|stir|asl|perf|bold|fmri|post|gad|gado|gd|ce|km|\+c"
)
_NO_AGENT = ("", "NO", "NONE", "N", "WITHOUT")


def why_not_native_t1(series: Series) -> str | None:
    """What in the headers speaks against it, in words for a radiologist; ``None`` when nothing does.

    Absence of an attribute says nothing, except of MR Acquisition Type.
    """
    kind = _text(series, "MRAcquisitionType")
    if kind != "3D":
        return sentence("MR Acquisition Type is {kind}, needed is 3D", kind=kind or sentence("absent"))
    agent = _text(series, "ContrastBolusAgent")
    if agent not in _NO_AGENT:
        return sentence("it was acquired with contrast agent, which the network does not know")
    for keyword, name, limit in (
        ("EchoTime", "Echo Time", LONGEST_ECHO_MS),
        ("InversionTime", "Inversion Time", LONGEST_INVERSION_MS),
    ):
        value = _number(series, keyword)
        if value > limit:
            return sentence(
                "{name} is {value} ms, a T1-weighted gradient echo has at most {limit} ms",
                name=name,
                value=f"{value:g}",
                limit=f"{limit:g}",
            )
    thickness = _number(series, "SliceThickness")
    if thickness > THICKEST_MM:
        return sentence(
            "slices are {thickness} mm thick, at most {limit} mm can be measured",
            thickness=f"{thickness:g}",
            limit=f"{THICKEST_MM:g}",
        )
    if "P" in _values(series, "ImageType")[2:3] or "PHASE" in _values(series, "ImageType"):
        return sentence("it is a phase image")
    for keyword in ("SeriesDescription", "ProtocolName", "SequenceName"):
        words = re.split(r"[^a-z0-9+]+", _text(series, keyword).lower())
        other = [word for word in words if re.fullmatch(_OTHER, word) or "flair" in word]
        if other:
            return sentence("its {keyword} names another contrast ({name})", keyword=keyword, name=other[0])
    years = re.fullmatch(r"(\d{1,3})([DWMY])", _text(series, "PatientAge"))
    if years and (years[2] != "Y" or int(years[1]) < ADULT_YEARS):
        return sentence("the patient is under {years} years: children were not evaluated", years=ADULT_YEARS)
    return None


def _values(series: Series, keyword: str) -> list[str]:
    value: Any = series.attribute(keyword)
    parts = [] if value is None else [value] if isinstance(value, str | int | float) else list(value)
    return [str(part).strip().upper() for part in parts]


def _text(series: Series, keyword: str) -> str:
    return " ".join(_values(series, keyword))


def _number(series: Series, keyword: str) -> float:
    value = series.attribute(keyword)
    try:
        return 0.0 if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return 0.0
