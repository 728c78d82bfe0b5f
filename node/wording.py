"""Wording of results for physicians: the notice, numbers with units, names, dates.

Reports, pictures, the dashboard and ``ainode try`` all take their words from here: the same value reads the same
everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from math import floor, log10
from typing import Literal, NamedTuple

from node.translation import Sentence, current_language, decimal, gettext, in_every_language, marked, sentence

NOTICE = marked("Research use only. Not for diagnosis.")
"""Stands in every object that the node makes and on every page that it shows."""

_HU = "[hnsf'U]"
_WHOLE = frozenset({"mm", "mm2", "mm3", _HU, "%", "d"})
"""Units in which a fraction says more than was measured: diameters are reported in whole millimetres
(Fleischner Society, MacMahon et al., Radiology 2017)."""
_SMALLEST = dict.fromkeys(_WHOLE - {_HU}, 1.0) | {"ml": 0.1, "cm3": 0.1, "1": 0.001, "{ratio}": 0.001}
"""A positive value that is rounded to less is said to be under it."""
_LEAST = 9
"""Decimal places beyond which a number is zero."""
_ABSURD = 1e7
_HALF_UP = Context(prec=400, rounding=ROUND_HALF_UP)
"""Digits enough for every value."""
_WORDS = marked("under"), marked("over"), marked("day"), marked("days")
_UNITS = {_HU: "HU", "mm3": "mm³", "mm2": "mm²", "cm3": "ml", "cm2": "cm²", "{ratio}": "", "1": "", "d": "days"}
"""UCUM codes that people write otherwise."""


def together(*parts: str) -> str:
    """Join parts of a reason, without empty ones: a sentence after a full stop, any other part after a semicolon."""
    if any(isinstance(part, Sentence) for part in parts):
        return in_every_language(lambda: together(*(f"{part}" for part in parts)))
    text = ""
    for part in filter(None, parts):
        mark = gettext("; ") if text.endswith("。") or not part[0].isupper() else ". "
        text = f"{text.rstrip('.。')}{mark}{part}" if text else part
    return text


def timings_text(timings: Mapping[str, float], peak_memory_mib: Mapping[str, float], device: str) -> str:
    """Seconds of each step of an analysis, and its peak memory on each side."""
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in timings.items())
    peaks = ", ".join(f"{mib:.0f} MiB {where}" for where, mib in peak_memory_mib.items())
    return gettext("{parts} on {device}; peak memory {peaks}", parts=parts, device=device, peaks=peaks)


def sensible(value: float, unit: str) -> float:
    """Round ``value`` to its significant digits; ``unit``: UCUM code. Idempotent.

    Whole numbers of millimetres, HU, per cent and days, millilitres to a tenth below ten; other units, and values
    below the smallest step of their own, to two significant digits; never a fraction from 100 on.
    """
    if value == 0:
        return 0.0
    places = 1 - floor(log10(abs(value)))
    if unit == _HU or (unit in _WHOLE and abs(value) >= 1):
        places = 0
    elif unit in ("ml", "cm3") and abs(value) >= 0.1:
        places = 1 if abs(value) < 9.95 else 0
    if unit == "%" and 99.5 <= value < 100:  # almost certain is not certain
        return min(_nearest(value, 1), 99.9)
    return _nearest(value, min(max(places, 0), _LEAST)) or 0.0  # no minus sign before zero


def _nearest(value: float, places: int) -> float:
    """Round as people do, the half away from zero: 12.5 mm are 13 mm."""
    return float(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-places), context=_HALF_UP))


def digits(value: float, unit: str) -> str:
    """The number alone, rounded by ``sensible``, never in scientific notation."""
    value = sensible(value, unit)
    if unit in ("ml", "cm3") and 0.1 <= abs(value) < 10:
        return f"{value:.1f}"
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.{_LEAST}f}".rstrip("0")


class RoundedQuantity(NamedTuple):
    """A measured value as a reader gets it, without words of any language."""

    bound: Literal["", "under", "over"]
    """Whether the value lies under or over the number, which is then a limit."""
    number: str
    unit: str
    """UCUM code."""


def rounded(value: float, unit: str) -> RoundedQuantity:
    """Round a value by ``sensible``; large volumes become millilitres, and what is too small a limit."""
    value = sensible(value, unit)
    if unit == "mm3" and abs(value) >= 1000:
        value, unit = value / 1000, "ml"
    if unit == "%" and 99 < value < 100:
        return RoundedQuantity("over", "99", unit)
    smallest = _SMALLEST.get(unit)
    if smallest is not None and 0 < value < smallest:
        return RoundedQuantity("under", digits(smallest, unit), unit)
    return RoundedQuantity("", digits(value, unit), unit)


def quantity(value: float, unit: str, *, signed: bool = False) -> str:
    """Return a measured value with its unit: ``"7 mm"``, ``"1.2 ml"``, ``"59 %"``, ``"under 1 mm"``.

    ``signed``: a change, with its sign.
    """
    if signed:
        text, shown = digits(_nearest(value, 0) if unit in _WHOLE else value, unit), unit_text(unit)
        return decimal(f"{'' if text == '0' or value < 0 else '+'}{text}{_space_before(shown)}{shown}".rstrip())
    bound, text, code = rounded(value, unit)
    shown = gettext("day") if code == "d" and text == "1" else gettext(unit_text(code))
    return f"{gettext(bound)} {decimal(text)}{_space_before(shown)}{shown}".strip()


def in_words(name: str, value: float, unit: str) -> str:
    """Return a measurement as text, for example ``"Long axis 7 mm"``; ``unit``: UCUM code."""
    shown = quantity(value, unit)
    return f"{name}{_space_before(shown)}{shown}".strip()


def _space_before(text: str) -> str:
    """Return what separates a number, or its unit, from what is before it."""
    is_close = current_language() == "zh" and text.startswith(("%", gettext("over"), gettext("under")))
    return "" if is_close else " "


def written(value: float) -> str:
    """A limit, or a value of a header, nearly as it stands there: to a thousandth, never in scientific notation."""
    if abs(value) >= _ABSURD:
        limit = f"{'' if value > 0 else '-'}{_ABSURD:.0f}"
        return (
            sentence("more than {number}", number=limit) if value > 0 else sentence("less than {number}", number=limit)
        )
    return f"{value:.3f}".rstrip("0").rstrip(".").replace("-0", "0", int(abs(value) < 0.0005))


def unit_text(unit: str) -> str:
    """Return a UCUM code as people write it; annotations in braces are no unit, but of PET they say which SUV it is."""
    if unit.startswith("{SUV"):
        return unit[1:].partition("}")[0]
    return _UNITS.get(unit, re.sub(r"\{[^}]*\}", "", unit))


def person(name: str) -> tuple[str, ...]:
    """Return a PN value (PS3.5 6.2.1) as text: one entry per component group that is not empty.

    ``"Doe^Jane^A^Dr=..."`` is "Doe, Dr Jane A"; ideographic and phonetic names stand without a comma.
    """
    alphabetic, *others = name.split("=")
    family, given, middle, prefix, suffix = ([part.strip() for part in alphabetic.split("^")] + [""] * 5)[:5]
    first = ", ".join(filter(None, (family, " ".join(filter(None, (prefix, given, middle))), suffix)))
    return tuple(filter(None, (first, *(" ".join(other.replace("^", " ").split()) for other in others))))


def duration(seconds: float) -> str:
    """Return seconds, or a longer unit from two minutes on, in the language that is spoken."""
    if seconds < 120:
        return decimal(f"{seconds:.1f} s") if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return decimal(f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} d")
