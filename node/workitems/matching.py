"""Whether a workitem is what a C-FIND asks for (PS3.4 C.2.2.2), and what is returned of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from pydicom import DataElement, Dataset

OF_IMAGES = ("Patient", "Issuer", "Accession", "Other")
"""Beginnings of keywords whose values are in the images only, which a receiver does not read."""
_RANGES = ("DA", "DT", "TM")
_NO_KEYS = frozenset(("SpecificCharacterSet", "TimezoneOffsetFromUTC"))


def matches(identifier: Dataset, step: Dataset) -> bool:
    """Return whether every key with a value matches. A sequence matches when one of its items does."""
    return all(_matches(key, step) for key in identifier if key.keyword not in _NO_KEYS)


def keys_with_values(identifier: Dataset) -> Iterator[str]:
    """Yield the keywords of the keys that have a value, also of those in sequences."""
    for key in identifier:
        if key.VR == "SQ":
            for item in key.value:
                yield from keys_with_values(item)
        elif _texts(key):
            yield key.keyword


def returned(identifier: Dataset, step: Dataset) -> Dataset:
    """Return the attributes of a workitem that an identifier names; empty ones where it has none."""
    dataset = Dataset()
    for key in identifier:
        if key.keyword in _NO_KEYS:
            continue
        dataset[key.tag] = step[key.tag] if key.tag in step else DataElement(key.tag, key.VR, None)
    return dataset


def _matches(key: DataElement, step: Dataset) -> bool:
    if key.VR == "SQ":
        wanted = [item for item in key.value if any(keys_with_values(item))]
        items = step[key.tag].value if key.tag in step else ()
        return all(any(matches(wanted_item, item) for item in items or ()) for wanted_item in wanted)
    texts = _texts(key)
    if not texts:
        return True
    values = (_texts(step[key.tag]) if key.tag in step else []) or [""]
    return any(_equals(key.VR, text, value) for text in texts for value in values)


def _texts(element: DataElement) -> list[str]:
    value = element.value
    values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return [text for value in values if value is not None and (text := str(value).strip())]


def _equals(vr: str, text: str, value: str) -> bool:
    if vr in _RANGES and "-" in text:
        first, _, last = text.partition("-")
        return bool(value) and (not first or value[: len(first)] >= first) and (not last or value[: len(last)] <= last)
    return value == text if vr == "UI" else fnmatchcase(value, text.replace("[", "[[]"))
