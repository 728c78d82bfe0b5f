"""Coded entries (PS3.3 8.8): complete, known to the standard, and with its meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from pydicom import Dataset
from pydicom.sr._concepts_dict import concepts

from node.pipeline.ucum import is_ucum

_CONCEPTS: dict[str, Any] = concepts


def _meanings(scheme: str) -> dict[str, set[str]]:
    """Return the meanings of every value of a scheme, in lower case."""
    meanings: dict[str, set[str]] = {}
    for concept in _CONCEPTS[scheme].values():
        for value, (meaning, _) in concept.items():
            meanings.setdefault(value, set()).add(meaning.casefold())
    return meanings


_MEANINGS = {"DCM": _meanings("DCM")}
_DESIGNATORS = {scheme.casefold(): scheme for scheme in _CONCEPTS}
"""Coding Scheme Designators (PS3.16 8): readers compare them letter by letter."""


def code_faults(items: Iterable[Dataset]) -> Iterator[str]:
    """Faults of those of ``items`` that are coded entries."""
    for item in items:
        if "CodingSchemeDesignator" in item or "CodeMeaning" in item:
            value = str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or "")
            yield from _faults(value, str(item.get("CodingSchemeDesignator") or ""), str(item.get("CodeMeaning") or ""))


@cache
def _faults(value: str, scheme: str, meaning: str) -> tuple[str, ...]:
    if scheme == "UCUM" and value and not is_ucum(value):
        return (f"code ({value}, UCUM) is no unit of UCUM",)
    known = _MEANINGS.get(scheme, {})
    if not value or not scheme or not meaning:
        return (f"code ({value}, {scheme}) has no value, scheme or meaning",)
    if scheme not in _CONCEPTS and scheme.casefold() in _DESIGNATORS:
        return (f"code ({value}, {scheme}): the standard writes {_DESIGNATORS[scheme.casefold()]}",)
    if known and value not in known:
        return (f"code ({value}, {scheme}) is not in the standard",)
    if scheme == "DCM" and meaning.casefold() not in known[value]:
        return (f"code ({value}, {scheme}) does not mean {meaning!r}",)
    return ()
