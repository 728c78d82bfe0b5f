"""Header repairs: missing or wrong attributes of a series, and what the results use instead. Keywords, never values."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from math import isfinite

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import STR_VR, validate_value

from node.results.analysis import Source
from node.results.headers import EMPTY, EQUIPMENT, KEPT
from node.results.identity import Identity
from node.results.iod import is_current
from node.studies.pydicom_errors import UNREADABLE

_FORMED = frozenset({"AS", "CS", "DA", "DS", "IS", "TM", "UI"})
"""Value Representations with a form of their own (PS3.5 6.2); free text has none."""


_USED = (
    *KEPT, *EQUIPMENT, "SoftwareVersions", "BodyPartExamined", "Laterality", "SeriesNumber", "SeriesDescription",
    "InstanceNumber", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "ImageType",
)  # fmt: skip
"""What results take from the headers, identity apart."""
_USED_TAGS = tuple(Tag(keyword) for keyword in _USED)


def drop_unreadable(source: Source) -> tuple[str, ...]:
    """Delete attributes that cannot be parsed, so that they count as missing.

    Without that a valid analysis would be lost for a number that nobody needs. One phrase for each attribute. Most
    images of a series say the same: what could be read in one is not parsed again in the next.
    """
    parsed: set[object] = set()
    dropped = dict.fromkeys(
        tag
        for dataset in source.datasets
        for tag in _USED_TAGS
        if tag in dataset and not _is_readable(dataset, tag, parsed)
    )
    for dataset in source.datasets:
        for tag in dropped:
            if tag in dataset and not _is_readable(dataset, tag, parsed):
                del dataset[tag]
    return tuple(f"{keyword_for_tag(tag)} cannot be read: taken for missing" for tag in dropped)


def _is_readable(dataset: Dataset, tag: BaseTag, parsed: set[object]) -> bool:
    element = dataset.get_item(tag)
    same = (tag, element.VR, element.value) if isinstance(element, RawDataElement) else None
    if same in parsed:
        return True
    try:
        value = dataset[tag].value
        if dictionary_VR(tag) in ("DS", "IS"):
            values = value if isinstance(value, MultiValue) else [value or 0]
            if not all(isfinite(float(number)) for number in values):
                return False
    except UNREADABLE:
        return False
    if same:
        parsed.add(same)
    return True


def repairs_of(source: Source) -> tuple[str, ...]:
    """Return a phrase for each repair, in the order of the first header; empty for headers that conform."""
    first = source.datasets[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the same
        return (*_identity(first, Identity.read(source)), *_images(source))


def _identity(first: Dataset, identity: Identity) -> Iterator[str]:
    for keyword in EMPTY:
        if keyword not in first:
            yield f"{keyword} is missing: left empty"
    raw = {keyword_for_tag(e.tag): e for e in identity.elements if isinstance(e, RawDataElement) and e.value}
    texts = {keyword: e for keyword, e in raw.items() if e.VR in STR_VR}
    encodings = _encodings(first)
    if not encodings:
        yield "SpecificCharacterSet is unknown: kept, with all texts byte for byte"
    for keyword, element in texts.items():
        value = bytes(element.value or b"")
        if encodings and not _fits(value, encodings):
            yield f"{keyword} is not in SpecificCharacterSet: kept byte for byte"
        elif element.VR in _FORMED and not _is_valid(str(element.VR), value):
            yield f"{keyword} is no {element.VR}: kept as it is"


def _encodings(first: Dataset) -> list[str]:
    """Python's names of the character sets; none when one is unknown."""
    stated = first.get("SpecificCharacterSet") or ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return [str(name) for name in convert_encodings(stated)]
        except (LookupError, UserWarning):
            return []


def _fits(value: bytes, encodings: list[str]) -> bool:
    """A text with escape sequences is taken as it is; any other is in the first character set (PS3.5 6.1.2.5)."""
    if b"\x1b" in value:
        return len(encodings) > 1
    try:
        value.decode("ascii" if encodings[0] == "iso8859" else encodings[0])
    except UnicodeDecodeError:
        return False
    return True


def _is_valid(vr: str, value: bytes) -> bool:
    try:
        for part in value.decode("ascii").strip(" \0").split("\\"):
            validate_value(vr, part, RAISE)
    except ValueError:
        return False
    return True


def _images(source: Source) -> Iterator[str]:
    first = source.datasets[0]
    if not is_current(str(first.get("SOPClassUID", ""))):
        yield "SOPClassUID is retired: referred to as it is"
    if "ImagePositionPatient" not in first:
        return
    if not first.get("FrameOfReferenceUID"):
        yield "FrameOfReferenceUID is missing: one is derived from the series"
    if not float(first.get("SliceThickness") or 0) > 0:
        yield "SliceThickness is missing: the distance of the slices is taken"
    for keyword in ("ImageOrientationPatient", "PixelSpacing"):
        if any(dataset.get(keyword) != first.get(keyword) for dataset in source.datasets):
            yield f"{keyword} differs between images by rounding: that of the first is taken"
