"""Values of a data set in the DICOM JSON model (PS3.18 F) that others have sent, without trust in its form. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_description, tag_for_keyword

from node.errors import InputError

LARGEST = 1 << 20
"""Bytes of a request; one names some hundred instances."""
_LONGEST_TEXT = 1024

Values = Mapping[str, Any]
"""An object of DICOM JSON: tag -> vr and Value."""


def read_step(content: bytes) -> Values:
    """Return the data set of a body: an object, or an array with one. Raises ``InputError``."""
    try:
        read = json.loads(content) if content.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InputError("the body is not JSON") from error
    if isinstance(read, list) and len(read) == 1:
        read = read[0]
    if not isinstance(read, dict):
        raise InputError("the body is not one data set in DICOM JSON (PS3.18 F)")
    return {str(tag).upper(): value for tag, value in read.items()}


def text_of(values: Values, keyword: str) -> str:
    """Return the first value of an attribute; empty when it is absent, empty, or no text or number."""
    contents = _values(values, keyword)
    first = contents[0] if contents else ""
    if isinstance(first, Mapping):
        first = first.get("Alphabetic", "")
    return str(first).strip()[:_LONGEST_TEXT] if isinstance(first, str | int | float) else ""


def sole_text_of(values: Values, keyword: str) -> str:
    """Return the only value of an attribute; empty when it has none.

    Raises ``InputError`` for several values and for what is no value (PS3.18 F.2.2): left out, it would change whose
    images are analysed, and which.
    """
    contents = _stated(values, keyword)
    if len(contents) > 1 or not all(isinstance(content, str | int | float) for content in contents):
        raise InputError(f"{_name(keyword)} needs one text in its Value")
    return text_of(values, keyword)


def only_items_of(values: Values, keyword: str) -> list[Values]:
    """Return the items of a sequence. Raises ``InputError`` for a value that is no item."""
    if not all(isinstance(item, Mapping) for item in _stated(values, keyword)):
        raise InputError(f"{_name(keyword)} has a value that is no item")
    return items_of(values, keyword)


def items_of(values: Values, keyword: str) -> list[Values]:
    """Return the items of a sequence; none when it is absent or no sequence."""
    items = [item for item in _values(values, keyword) if isinstance(item, Mapping)]
    return [{str(tag).upper(): value for tag, value in item.items()} for item in items]


def codes_of(values: Values, keyword: str) -> list[tuple[str, str, str]]:
    """Return value, scheme and meaning of the codes of a sequence."""
    parts = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    return [tuple(text_of(item, part) for part in parts) for item in items_of(values, keyword)]  # type: ignore[misc]


def _stated(values: Values, keyword: str) -> list[Any]:
    element = values.get(f"{tag_for_keyword(keyword) or 0:08X}")
    if element is None:
        return []
    contents = element.get("Value") if isinstance(element, Mapping) else element
    if contents is not None and not isinstance(contents, list):
        raise InputError(f"{_name(keyword)} is no element with a list as Value (PS3.18 F.2.2)")
    return [content for content in contents or () if content is not None]


def _name(keyword: str) -> str:
    return dictionary_description(tag_for_keyword(keyword) or 0)


def _values(values: Values, keyword: str) -> list[Any]:
    element = values.get(f"{tag_for_keyword(keyword) or 0:08X}")
    contents = element.get("Value") if isinstance(element, Mapping) else None
    return contents if isinstance(contents, list) else []
