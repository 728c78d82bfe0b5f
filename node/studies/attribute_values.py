"""Values of an attribute as text, tolerant of values that its VR does not allow."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from datetime import date

from pydicom import Dataset
from pydicom.tag import BaseTag

from node.config.rule_condition import parse_condition
from node.studies.pydicom_errors import UNREADABLE


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
    return ["" if one is None or isinstance(one, Dataset) else str(one).strip() for one in values]


def day(value: object) -> date | None:
    """Parse a DA value; ``None`` when it is absent or invalid."""
    try:
        return date.fromisoformat(str(value or ""))
    except ValueError:
        return None
