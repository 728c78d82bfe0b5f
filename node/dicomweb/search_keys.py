"""The query of a QIDO-RS request (PS3.18 8.3.4), and whether an object matches it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from node.config.rule_condition import folded
from node.errors import InputError

MOST_RESULTS = 1000
_USUAL_RESULTS = 100
_PAGING = ("limit", "offset")
_IGNORED = ("includefield", "fuzzymatching")
Values = Mapping[str, Any]
"""An object of DICOM JSON: tag -> vr and Value."""


@dataclass(frozen=True)
class SearchKeys:
    """What is searched, and which part of the results is wanted."""

    wanted: Mapping[str, tuple[str, ...]]
    """Keyword, or path of keywords -> texts of which one must match; wildcards and ranges as in PS3.4 C.2.2.2."""
    limit: int
    offset: int

    @classmethod
    def of(cls, query: Sequence[tuple[str, str]], known: Sequence[str]) -> SearchKeys:
        """Read a query. ``known``: keywords that may be searched, or paths of them.

        Raises ``InputError`` for others: without a condition, objects would be found that were not asked for.
        """
        wanted: dict[str, tuple[str, ...]] = {}
        numbers = {"limit": _USUAL_RESULTS, "offset": 0}
        for name, value in query:
            if name in _IGNORED:
                continue
            if name in _PAGING:
                if not re.fullmatch(r"[0-9]{1,9}", value):
                    raise InputError(f"{name} must be a number, 0 or more")
                numbers[name] = int(value)
                continue
            keyword = ".".join(map(_keyword, name.split(".")))
            if keyword not in known:
                raise InputError(f"{name[:64]!a} cannot be searched here; possible are {', '.join(known)}")
            if value:
                texts = value.replace("\\", ",").split(",") if _is_list(keyword) else [value]
                wanted[keyword] = tuple(text.strip() for text in texts)
        return cls(wanted, min(numbers["limit"], MOST_RESULTS), numbers["offset"])

    def matches(self, values: Values) -> bool:
        """Return whether an object with these attributes is wanted."""
        return all(
            any(_matches(keyword, text, value) for text in texts for value in texts_of(values, keyword) or [""])
            for keyword, texts in self.wanted.items()
        )


def texts_of(values: Values, path: str) -> list[str]:
    """Return the values of an attribute as texts; of a name its alphabetic, ideographic and phonetic groups.

    ``path``: its keyword, after those of the sequences that it is in and a point each.
    """
    keyword, _, rest = path.partition(".")
    tag = tag_for_keyword(keyword)
    items = values.get(f"{tag:08X}", {}).get("Value", ()) if tag is not None else ()
    if rest:
        return [text for item in items if isinstance(item, dict) for text in texts_of(item, rest)]
    texts: list[str] = []
    for value in items:
        texts += map(str, value.values()) if isinstance(value, dict) else [str(value)]
    return texts


def _keyword(name: str) -> str:
    return keyword_for_tag(int(name, 16)) if re.fullmatch(r"[0-9A-Fa-f]{8}", name) else name


def _vr(path: str) -> str:
    return dictionary_VR(path.rpartition(".")[2])


def _is_list(path: str) -> bool:
    return path == "ModalitiesInStudy" or _vr(path) == "UI"


def _matches(path: str, text: str, value: str) -> bool:
    vr = _vr(path)
    if vr in ("DA", "TM", "DT") and "-" in text:
        first, _, last = text.partition("-")
        return bool(value) and (not first or value[: len(first)] >= first) and (not last or value[: len(last)] <= last)
    if vr == "UI":
        return value == text
    if vr == "PN":
        text, value = folded(text), folded(value)
    return fnmatchcase(value, text.replace("[", "[[]"))
