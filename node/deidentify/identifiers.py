"""What identifies somebody in an object, and the search for it in the de-identified one: the last check before sending.

It knows nothing of the profile's application: it compares what was, with the bytes that would be sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings
from pydicom.dataset import FileDataset

from node.deidentify.profile import UIDS_OF_KINDS, action, table
from node.deidentify.pseudonyms import STANDARD

SHORTEST = 4
"""Characters, or bytes of a name in another script, from which on a text identifies."""
_ANYWHERE = 8
"""From this length on a text is searched in pixel data as well, where shorter ones occur by chance."""
_WHOLE_WORD = 6
"""A shorter text counts as a word only, not as a part of one."""
_TEXT = {"AE", "LO", "LT", "SH", "ST", "UC", "UR", "UT"}
_NUMBERS = frozenset({"DS", "IS"})
_BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"})
_UID = re.compile(rb"[0-2](?:\.[0-9]{1,39}){3,}")
_WORDS = re.compile(r"[^\W\d_]{2,}", re.UNICODE)
_PUBLIC = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "BodyPartExamined", "ImageType", "ScanOptions")
"""Attributes that stay: that a hospital is called like a vendor gives nobody away."""


@dataclass
class Identifiers:
    """Identifying values of one object, each with the keyword of its attribute."""

    uids: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    dates: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    """Words of names, in small letters."""
    encodings: tuple[str, ...] = ()


def identifiers_of(dataset: FileDataset, options: frozenset[str], *, is_result: bool = False) -> Identifiers:
    """Collect the identifying values of an object before it is de-identified, except what ``options`` retain.

    ``is_result``: made by this node, where the creator of content is a pipeline.
    """
    identifiers = Identifiers(encodings=_encodings(dataset))
    public = {str(dataset.get(keyword, "")).casefold() for keyword in _PUBLIC}
    for element in _elements(dataset):
        for value in _texts(element):
            if element.VR == "PN":
                if is_result and element.keyword == "ContentCreatorName":
                    continue
                _add_name(identifiers, value, _label(element))
            elif element.VR == "UI":
                if not value.startswith(STANDARD) and _is_replaced(element, options):
                    identifiers.uids[value] = _label(element)
            elif element.VR in ("DA", "DT"):
                stays = "modified dates" in options and element.keyword != "PatientBirthDate"
                if value[:8].isdecimal() and len(value) >= 8 and not stays:
                    identifiers.dates[value[:8]] = _label(element)
            elif (
                element.VR in _TEXT
                and _is_identifier(element, options)
                and (_is_personal(element) or value.casefold() not in public)
            ):
                _add(identifiers.texts, value, _label(element))
    return identifiers


def traces(sent: bytes, dataset: FileDataset, identifiers: Identifiers) -> Iterator[str]:
    """Yield where a file (``sent``, read as ``dataset``) has something of ``identifiers``; no values of it.

    Texts are searched in the bytes, in every character set of the object, UTF-8, Latin-1 and UTF-16; short ones not
    where numbers or pixels are, which have them by chance.
    """
    for uid in {match.decode() for match in _UID.findall(sent)} & identifiers.uids.keys():
        yield f"a UID of the source ({identifiers.uids[uid]})"
    header = _text_of(dataset).lower()
    without_numbers = _text_of(dataset, _BULK | _NUMBERS)
    small = sent.lower()
    for text, keyword in identifiers.texts.items():
        if text.isdecimal() and len(text) < _ANYWHERE:
            is_left = _occurs(text.encode(), without_numbers)
        else:
            forms = _encoded(text, identifiers.encodings)
            is_left = any(_occurs(form, small if len(form) >= _ANYWHERE else header) for form in forms)
        if is_left:
            yield f"the value of {keyword}"
    for date, keyword in identifiers.dates.items():
        if _occurs(date.encode(), without_numbers):
            yield f"the value of {keyword}"
    yield from _forbidden_attributes(dataset, identifiers)


def _forbidden_attributes(dataset: FileDataset, identifiers: Identifiers) -> Iterator[str]:
    for element in _elements(dataset):
        if element.tag.group % 2:
            yield f"the private attribute {_label(element)}"
        if element.VR == "UI" and any(value in identifiers.uids for value in _texts(element)):
            yield f"a UID of the source in {_label(element)}"


def _label(element: DataElement) -> str:
    return element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})"


def _is_replaced(element: DataElement, options: frozenset[str]) -> bool:
    return element.keyword not in UIDS_OF_KINDS and action(element.tag, options, "", is_nested=True) in ("U", None)


def _is_identifier(element: DataElement, options: frozenset[str]) -> bool:
    """Whether the table has the attribute, it is no description, and no option retains it."""
    row = table().get(element.tag)
    return row is not None and not row.is_descriptor and action(element.tag, options, "", is_nested=True) in set("XZD")


def _is_personal(element: DataElement) -> bool:
    return element.tag.group == 0x0010 or element.keyword.endswith(("ID", "IDs", "Number"))


def _add_name(identifiers: Identifiers, value: str, keyword: str) -> None:
    for part in re.split(r"[\^=]", value):
        _add(identifiers.texts, part, keyword)
        identifiers.names.update(word.casefold() for word in _WORDS.findall(part))


def _add(texts: dict[str, str], value: str, keyword: str) -> None:
    text = " ".join(value.split())
    if len(text) >= SHORTEST or len(text.encode()) >= SHORTEST:
        texts.setdefault(text, keyword)


def _occurs(pattern: bytes, where: bytes) -> bool:
    """Whether a text occurs and is no part of a longer word (short ones) or number."""
    start = where.find(pattern)
    while start >= 0:
        before, after = where[start - 1 : start], where[start + len(pattern) : start + len(pattern) + 1]
        if pattern.isdigit():
            inside = before.isdigit() or after.isdigit()
        else:
            inside = len(pattern) < _WHOLE_WORD and (before.isalnum() or after.isalnum())
        if not inside:
            return True
        start = where.find(pattern, start + 1)
    return False


def _encoded(text: str, encodings: tuple[str, ...]) -> set[bytes]:
    forms: set[bytes] = set()
    for written in {text, text.lower(), text.upper()}:
        for encoding in (*encodings, "utf-8", "latin-1", "utf-16-le"):
            try:
                forms.add(written.encode(encoding).lower())
            except (UnicodeEncodeError, LookupError):
                continue
    return {form for form in forms if len(form) >= SHORTEST}


def _encodings(dataset: Dataset) -> tuple[str, ...]:
    try:
        return tuple(convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6"))
    except (LookupError, ValueError, TypeError):
        return ()


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def _texts(element: DataElement) -> list[str]:
    value = element.value
    if element.VR in _BULK or value is None:
        return []
    values = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
    return [text for text in (str(entry).strip(" \0") for entry in values) if text]


def _text_of(dataset: FileDataset, without: frozenset[str] = _BULK) -> bytes:
    """Return all values of an object and its File Meta Information as text, without some VRs."""
    out = BytesIO()
    for element in (*dataset.file_meta, *_elements(dataset)):
        if element.VR not in without:
            for text in _texts(element):
                out.writelines(form + b"\n" for form in _forms(text))
    return out.getvalue()


def _forms(text: str) -> Iterator[bytes]:
    yield text.encode("utf-8", "replace")
    if not text.isascii():
        yield text.encode("utf-16-le", "replace")
