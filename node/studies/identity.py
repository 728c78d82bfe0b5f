"""Identity of a series: whether all images state one patient, study and series. Attributes, never values.

These are no contradictions: padding, letter case and character set of a name, an older form of a birth date, and an
attribute that only some images state. One thing must be stated by all images as soon as one states it: the Patient ID,
or the name where no image has an ID. An image without it may be anybody's.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from node.studies.pydicom_errors import UNREADABLE

SERIES = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber",
    "StudyInstanceUID", "SeriesInstanceUID",
)  # fmt: skip
"""What the images of one series have in common."""
PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
"""What the series of one study have in common."""
PRIOR = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
"""What an earlier study has in common with a later one: names change."""

Parts = tuple[str, ...]
"""A value, or the component groups of a name (PS3.5 6.2.1): alphabetic, ideographic, phonetic."""


def contradictions(headers: Iterable[Dataset], keywords: Sequence[str] = SERIES) -> tuple[str, ...]:
    """The ``keywords`` in which the images contradict one another, in their order; empty: they may be of one patient.

    ``headers``: as they were received, of files or of frames.
    """
    distinct = {_undecoded(header, keywords): header for header in headers}  # nearly always one
    if len(distinct) < 2:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of character sets and values
        values = [{keyword: _value(header, keyword) for keyword in keywords} for header in distinct.values()]
    named_by = next((k for k in ("PatientID", "PatientName") if any(any(v.get(k, ())) for v in values)), "")
    return tuple(k for k in keywords if _differ([v[k] for v in values], stated_by_all=k == named_by))


def outnumbered(headers: Sequence[Dataset], keywords: Sequence[str]) -> list[str]:
    """SOP Instance UIDs of the images whose values of ``keywords`` are not those of most, in their order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        values = [tuple(_value(header, keyword) for keyword in keywords) for header in headers]
    most, _ = Counter(values).most_common(1)[0]
    others = (str(header.get("SOPInstanceUID", "")) for header, of in zip(headers, values, strict=True) if of != most)
    return list(dict.fromkeys(others))


def _differ(values: Sequence[Parts], *, stated_by_all: bool) -> bool:
    if stated_by_all and not all(any(parts) for parts in values):
        return True
    return any(len({part for part in of_all if part}) > 1 for of_all in zip(*values, strict=True))


def _undecoded(header: Dataset, keywords: Sequence[str]) -> tuple[object, ...]:
    values = []
    for tag in map(Tag, ("SpecificCharacterSet", *keywords)):
        element = _element(header, tag)
        values.append(element.value if isinstance(element, RawDataElement) else str(element and element.value))
    return tuple(values)


def _element(header: Dataset, tag: BaseTag) -> DataElement | RawDataElement | None:
    try:
        return header.get_item(tag) if tag in header else None
    except UNREADABLE:  # it has a length and no value
        return None


def _value(header: Dataset, keyword: str) -> Parts:
    try:
        value = header.get(keyword)
    except UNREADABLE:  # not what its VR allows
        element = _element(header, Tag(keyword))
        value = bytes(element.value or b"").decode("latin-1") if isinstance(element, RawDataElement) else None
    if isinstance(value, PersonName):
        return tuple(_name(group) for group in (value.alphabetic, value.ideographic, value.phonetic))
    text = "" if value is None else str(value).strip(" \0")
    text = _FORMS.get(keyword, str)(text)
    return (text, "", "") if keyword == "PatientName" else (text,)


def _name(group: str) -> str:
    text = unicodedata.normalize("NFKC", group).casefold().strip(" \0")
    return "^".join(" ".join(part.split()) for part in text.split("^")).rstrip("^")


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


_FORMS: Mapping[str, Callable[[str], str]] = MappingProxyType({
    "PatientName": _name,
    "PatientBirthDate": _digits,  # 1970.01.31 before DICOM 3.0
    "PatientSex": str.upper,
})  # fmt: skip
