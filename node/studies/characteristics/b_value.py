"""Diffusion b-value of an image: of the attribute of the standard, or of those of the makers that lack it."""

from __future__ import annotations

import re

from pydicom import Dataset

from node.studies.attribute_values import values_at, values_of
from node.studies.characteristics.characteristic import as_number
from node.studies.pydicom_errors import UNREADABLE

_PRIVATE = (
    (0x0019, "SIEMENS MR HEADER", 0x0C),
    (0x0043, "GEMS_PARM_01", 0x39),
    (0x2001, "Philips Imaging DD 001", 0x03),
    (0x0065, "Image Private Header", 0x09),
)
"""Group, private creator and element: Siemens, GE, Philips, United Imaging."""
_GE_OFFSET = 1e9
"""GE adds it, once or more often, to the b-values of some releases."""
_MOST = 50_000.0
"""s/mm2; no scanner goes beyond."""
_SEQUENCE_NAME = re.compile(r"ep_b(\d+)(?:[#t_]|$)", re.IGNORECASE)
"""Siemens Sequence Name (0018,0024), such as ``*ep_b1000t``."""


def b_value_of(image: Dataset) -> tuple[float, str] | None:
    """Return the b-value (s/mm2) and the attribute that states it; ``None`` when no attribute does."""
    for path in ("DiffusionBValue", "MRDiffusionSequence.DiffusionBValue"):
        if (value := _valid(values_of(image, path)[0])) is not None:
            return value, "DiffusionBValue"
    for group, creator, element in _PRIVATE:
        try:
            data_element = image.private_block(group, creator)[element]
            text = values_at(image, (data_element.tag,))[0]
        except (KeyError, *UNREADABLE):
            continue
        if (value := _valid(text)) is not None:
            return value, f"{data_element.tag} {creator}"
    if (match := _SEQUENCE_NAME.search(values_of(image, "SequenceName")[0])) is not None:
        return float(match[1]), "SequenceName"
    return None


def _valid(text: str) -> float | None:
    value = as_number(text)
    if value is None or value < 0:
        return None
    value %= _GE_OFFSET
    return value if value <= _MOST else None
