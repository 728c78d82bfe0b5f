"""Codes of SNOMED CT for the names that a model gives to what it outlines; found in dictionaries, never made up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.sr.coding import Code

from node.pipeline.known_codes import CodeMatch, matching_codes
from node.pipeline.structure_names import PRIVATE_SCHEME, listed_code, structure, without_side

_SCHEME = "SCT"
_FILLERS = frozenset({"of", "the", "structure", "entire", "and"})
_QUALIFIER = re.compile(r"\s*\(([^()]*)\)$")
_BODY = ("body structure", "morphologic abnormality", "disorder", "")
"""What a code stands for, as the end of its meaning says; others are procedures, observables and animals' breeds."""
_MOST_SHOWN = 3
_LONGEST = 64
"""Characters of Code Meaning (0008,0104), VR LO."""


@dataclass(frozen=True, kw_only=True)
class StructureCode:
    """A name of a model with its code, or with candidates for whoever chooses."""

    label: str
    category: Code
    code: Code | None
    """``None``: nothing that is likely enough; it must be filled in."""
    guess: str
    """Why the code has to be checked; empty: the name means just this."""
    candidates: tuple[Code, ...] = ()
    """Codes that have all words of the name, where none was taken."""


def code_values(code: Code) -> list[str]:
    """Return value, scheme and meaning, as the options of a pipeline have them."""
    return [code.value, code.scheme_designator, code.meaning]


def structure_code(label: str, chosen: Sequence[str] | None = None) -> StructureCode:
    """Find the code of a name, or take the ``chosen`` one: value, scheme, meaning.

    The list of the adapters comes first, then the dictionary: a meaning of the same words, the only meaning that has
    all words. A tumour without a code of its own is a neoplasm. The side stays in the label where the code has none.
    """
    category, general = structure(label)
    if chosen is not None:
        return StructureCode(label=label, category=category, code=Code(*chosen), guess="")
    if (code := listed_code(label) or _same_words(label) or _same_words(without_side(label))) is not None:
        return StructureCode(label=label, category=category, code=code, guess="")
    if general.scheme_designator != PRIVATE_SCHEME:
        return StructureCode(label=label, category=category, code=general, guess="the general code of what it names")
    candidates = _with_all_words(without_side(label))
    if len(candidates) == 1:
        return StructureCode(
            label=label, category=category, code=candidates[0], guess="the only code with the words of the name"
        )
    return StructureCode(label=label, category=category, code=None, guess="", candidates=candidates[:_MOST_SHOWN])


def _same_words(name: str) -> Code | None:
    wanted = _words(name)
    same = [code for code in _matches(name) if _words(code.meaning) == wanted] if wanted else []
    return _code(same[0]) if same else None


def _with_all_words(name: str) -> tuple[Code, ...]:
    wanted = _words(name)
    if not wanted or not any(len(word) > 2 for word in wanted):
        return ()
    return tuple(_code(code) for code in _matches(name) if wanted <= _words(code.meaning) and _kind(code) in _BODY[:-1])


def _matches(name: str) -> list[CodeMatch]:
    words = re.sub(r"[\s_-]+", " ", name).split()
    codes = matching_codes(words) if words else []
    return [code for code in codes if code.scheme == _SCHEME and _kind(code) in _BODY and len(code.meaning) <= _LONGEST]


def _words(meaning: str) -> frozenset[str]:
    plain = _QUALIFIER.sub("", meaning).casefold()
    return frozenset(re.findall(r"[^\W_]+", plain)) - _FILLERS


def _kind(code: CodeMatch) -> str:
    match = _QUALIFIER.search(code.meaning)
    return match[1] if match else ""


def _code(match: CodeMatch) -> Code:
    """With the meaning as readers know it, without what the code stands for."""
    return Code(match.value, match.scheme, _QUALIFIER.sub("", match.meaning))
