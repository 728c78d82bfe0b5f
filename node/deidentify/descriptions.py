"""Cleaning of free text: only words of DICOM's coded terminology remain, and short numbers.

A list of what may stay is safe where a list of what must go never ends: names, places, dates and numbers of patients
are not in a terminology. Words that are names in this object are removed even if a terminology has them ("Baker").
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Any

_PARTS = re.compile(r"[^\W\d_]+(?:\d(?!\d))?|\d+(?:\.\d+)?|[^\w\s]|\s+|_", re.UNICODE)
_WORD = re.compile(r"[a-z]{2,}")
_DATES = re.compile(r"\d+(?:[-./:]\d+){2,}|\d{1,2}\.\d{1,2}\.")
_LONGEST_NUMBER = 3
_IMAGING = frozenset(
    {
        "ax", "axi", "axial", "tra", "cor", "sag", "sagittal", "coronal", "obl", "mpr", "mip", "t1", "t2", "t1w",
        "t2w", "pd", "pdw", "flair", "mprage", "tse", "fse", "gre", "epi", "dwi", "adc", "swi", "stir", "dixon",
        "haste", "vibe", "space", "ce", "gd", "native", "post", "pre", "recon", "thin", "thick", "std", "lung",
        "mediastinum", "brain", "head", "chest", "thorax", "abdomen", "pelvis", "neck", "spine", "knee", "mm", "cm",
        "ml", "hu", "ct", "mr", "mri", "pet", "pt", "in", "of", "the", "and", "or", "with", "without", "no", "not",
        "is", "are", "by", "at", "on", "to", "from", "series", "nodule", "nodules", "lesion", "lesions", "solid",
        "largest", "mm³", "precision", "weights", "model", "version", "x", "doubling",
        "previously", "analysed", "volume", "diameter",
    }
)  # fmt: skip
"""Words of series descriptions and of this node's reports that the codes lack."""


def cleaned(text: str, names: Collection[str]) -> str:
    """Return ``text`` without words that are unknown to the terminology or are ``names`` (in small letters)."""
    parts = [part for part in _PARTS.findall(_DATES.sub(" ", text)) if _may_stay(part, names)]
    return " ".join("".join(parts).split()).strip(" -,;:._^/()=")


def _may_stay(part: str, names: Collection[str]) -> bool:
    if part[0].isdecimal():
        return len(part.partition(".")[0]) <= _LONGEST_NUMBER and len(part) <= 2 * _LONGEST_NUMBER
    if part[0].isalpha():
        return part.casefold() in _words() and part.casefold() not in names
    return part not in "@\\"


@cache
def _words() -> frozenset[str]:
    from pydicom.sr._concepts_dict import concepts

    known: dict[str, Any] = concepts
    meanings = (
        meaning for scheme in ("SCT", "DCM") for values in known[scheme].values() for meaning, _ in values.values()
    )
    return _IMAGING | {word for meaning in meanings for word in _WORD.findall(meaning.casefold())}
