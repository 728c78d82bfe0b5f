"""Characteristics of a series as lines of text, each with its certainty and the attributes that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.translation import gettext, marked

_WORDS = frozenset({marked("header and pixels"), marked("disagree")})
"""Words in a basis that are neither keywords nor values of attributes."""


def characteristic_lines(characteristics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line for each, as ``plane axial (certain: ImageOrientationPatient of all images)``.

    ``characteristics``: values of ``node.studies.characteristics``, as the ledger keeps them.
    """
    return [_line(name, characteristic) for name, characteristic in characteristics.items()]


def _line(name: str, characteristic: Mapping[str, Any]) -> str:
    value, certainty = ", ".join(characteristic["values"]), str(characteristic["certainty"])
    basis = "; ".join(
        f"{_translated(keyword)} {_translated(evidence) or gettext('absent')}"
        for keyword, evidence in characteristic["basis"]
    )
    known = f"{gettext(certainty)}: " if certainty != value else ""
    return f"{name} {value} ({known}{basis})"


def _translated(text: str) -> str:
    return gettext(text) if text in _WORDS else text
