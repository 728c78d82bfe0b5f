"""Values of an attribute as text, tolerant of values that its VR does not allow."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Sequence
from datetime import date
from typing import TypeVar

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from node.config.rule_condition import parse_condition
from node.studies.pydicom_errors import UNREADABLE

T = TypeVar("T")
_CHARACTER_SET = Tag("SpecificCharacterSet")


def values_of(header: Dataset, path: str) -> list[str]:
    """Return the values of an attribute, of all items on a path; one empty text if it is absent or empty."""
    return values_at(header, parse_condition(path, "*").tags)


def values_at(header: Dataset, tags: Sequence[BaseTag]) -> list[str]:
    """Return the values of the attribute at ``tags``: sequences first, the attribute last; as ``values_of``."""
    items = [header]
    for tag in tags[:-1]:
        items = [inner for item in items if tag in item for inner in item[tag].value or ()]
    return [value for item in items for value in _texts(item, tags[-1])] or [""]


def _texts(item: Dataset, tag: BaseTag) -> list[str]:
    if tag not in item:
        return []
    try:
        value = item[tag].value
    except UNREADABLE:
        value = item.get_item(tag).value  # not what its VR allows: the bytes as they came
    if isinstance(value, bytes):
        value = value.decode("latin-1").rstrip("\0 ").split("\\")
    values = value if isinstance(value, MutableSequence) else [value]
    return ["" if value is None or isinstance(value, Dataset) else str(value).strip() for value in values]


def of_each(headers: Sequence[Dataset], keywords: Sequence[str], function: Callable[[Dataset], T]) -> list[T]:
    """Return ``function`` of each header, which looks at these top-level attributes and at nothing else.

    Of headers that state the same bytes in all of them, as most images of a series do, it is called with the first.
    """
    tags = [Tag(keyword) for keyword in keywords]
    known: dict[object, T] = {}
    values = []
    for header in headers:
        stated = _undecoded(header, tags)
        if stated is None:
            values.append(function(header))
            continue
        if stated not in known:
            known[stated] = function(header)
        values.append(known[stated])
    return values


def _undecoded(header: Dataset, tags: Sequence[BaseTag]) -> tuple[object, ...] | None:
    """Attributes as they were received; ``None`` when one of them has been decoded, which may have changed it."""
    character_set = header.get_item(_CHARACTER_SET)  # pydicom decodes it with the file
    stated: list[object] = [None if character_set is None else str(character_set.value)]
    for tag in tags:
        element = header.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
            stated.append((element.VR, element.value, element.is_implicit_VR, element.is_little_endian))
        elif element is None:
            stated.append(None)
        else:
            return None
    return tuple(stated)


def day(value: object) -> date | None:
    """Parse a DA value; ``None`` when it is absent or invalid."""
    try:
        return date.fromisoformat(str(value or ""))
    except ValueError:
        return None
