"""Codes of SNOMED CT, DICOM and UCUM in the dictionaries that pydicom ships, found by their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from node.pipeline.ucum import is_ucum


@dataclass(frozen=True, kw_only=True)
class CodeMatch:
    """A code of the dictionaries that pydicom ships."""

    value: str
    scheme: str
    meaning: str
    written: str
    """As a pipeline writes it: ``codes.SCT.Nodule``."""


def matching_codes(words: Sequence[str]) -> list[CodeMatch]:
    """Return the codes with all ``words`` in meaning or keyword, or with that value; the shortest meaning first.

    A unit of UCUM that the dictionaries do not have, such as ``ml``, comes before them.
    """
    unit = [CodeMatch(value=word, scheme="UCUM", meaning=word, written=f'Code("{word}", "UCUM", "{word}")')
            for word in words if len(words) == 1 and is_ucum(word)]  # fmt: skip
    sought = [word.casefold() for word in words]
    whole = " ".join(sought)
    matches = {
        (code.scheme, code.value): code
        for code in _known()
        if code.value.casefold() == whole or all(word in f"{code.meaning} {code.written}".casefold() for word in sought)
    }
    codes = sorted(
        matches.values(), key=lambda code: (code.meaning.casefold() != whole, len(code.meaning), code.written)
    )
    return codes if any(code.value in words for code in codes) else [*unit, *codes]


@cache
def _known() -> tuple[CodeMatch, ...]:
    return tuple(_read())


def _read() -> Iterator[CodeMatch]:
    from pydicom.sr._concepts_dict import concepts

    known: dict[str, Any] = concepts
    for scheme in ("SCT", "DCM", "UCUM"):
        for keyword, values in known[scheme].items():
            for value, (meaning, _) in values.items():
                written = f"codes.{scheme}.{keyword}"
                if len(values) > 1:  # one keyword of several codes cannot be looked up
                    written = f"Code({value!r}, {scheme!r}, {meaning!r})"
                yield CodeMatch(value=value, scheme=scheme, meaning=meaning, written=written)
