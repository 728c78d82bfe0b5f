"""Identity: the patient and study of every result, and its time zone.

Identity is copied as bytes from the source file and never decoded, so that a name in any character set, or in the
wrong one, leaves the node exactly as the scanner wrote it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import cache
from pathlib import Path

from highdicom._standard_utils import get_module_attribute_map
from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from node.results.analysis import Source
from node.wording import NOTICE

IDENTITY_MODULES = ("patient", "general-study", "patient-study", "clinical-trial-subject", "clinical-trial-study")
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip


def plain(text: str, limit: int = 64) -> str:
    """Return text that every character set can carry: ASCII without control characters and backslash."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(ascii_text.replace("\\", "/").split())[:limit].strip()


def noted(text: str, limit: int = 64) -> str:
    """``plain`` text with the notice behind it, which is never cut."""
    return f"{plain(text, limit - len(NOTICE) - 2).rstrip('.')}. {NOTICE}"


@cache
def identity_tags() -> frozenset[BaseTag]:
    """Attributes that must be the source's: Patient and Study modules, character set and time zone (PS3.3 C.7.1-2).

    References to other objects stay behind: their targets are not known here, and sources often leave them broken.
    """
    modules = get_module_attribute_map()
    keywords = {str(a["keyword"]) for m in IDENTITY_MODULES for a in modules[m] if not a["path"]}
    keywords |= {"SpecificCharacterSet", "TimezoneOffsetFromUTC"}
    keywords |= {"EthnicGroup", "OtherPatientIDs"}  # retired, and sent all the same
    keywords -= {"ReferencedStudySequence", "ReferencedPatientSequence", "ReferencedPatientPhotoSequence"}
    tags = {tag_for_keyword(k) for k in keywords}
    return frozenset(BaseTag(t) for t in tags if t is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Identity:
    """The source's patient and study, undecoded."""

    elements: tuple[DataElement | RawDataElement, ...]
    time_zone: tzinfo | None
    """Of Timezone Offset From UTC; ``None`` when the source states none: its times are local."""

    @classmethod
    def read(cls, source: Source) -> Identity:
        """Of the first file of a series."""
        return cls.of(source.paths[0])

    @classmethod
    def of(cls, path: Path) -> Identity:
        """Read the file again, so that its elements are undecoded."""
        header = dcmread(path, stop_before_pixels=True)
        elements = tuple(_undecoded(header, tag) for tag in sorted(identity_tags() & set(header.keys())))
        return cls.from_elements(elements)

    @classmethod
    def from_elements(cls, elements: tuple[DataElement | RawDataElement, ...]) -> Identity:
        """Of elements of the modules that ``identity_tags`` names."""
        return cls(elements=elements, time_zone=_time_zone(elements))

    def stamp(self, dataset: Dataset) -> None:
        """Replace patient and study of ``dataset`` by the source's; what the source lacks is left empty or out."""
        for tag in identity_tags():
            if tag in dataset:
                del dataset[tag]
        for keyword in _TYPE_2:
            setattr(dataset, keyword, None)
        for element in self.elements:
            dataset[element.tag] = element

    def local(self, moment: datetime) -> datetime:
        """``moment`` on the clock that the source's times are read by."""
        return moment.astimezone(self.time_zone)


def _undecoded(header: Dataset, tag: BaseTag) -> DataElement | RawDataElement:
    element = header.get_item(tag)
    if not isinstance(element, RawDataElement):
        return header[tag]
    vr = element.VR or dictionary_VR(tag)
    if vr == "SQ" or (vr == "US" and not element.is_little_endian):
        return header[tag]
    value = element.value or b""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return element._replace(VR=vr, value=value, length=len(value), is_implicit_VR=False, is_little_endian=True)


def _time_zone(elements: tuple[DataElement | RawDataElement, ...]) -> tzinfo | None:
    for element in elements:
        if keyword_for_tag(element.tag) == "TimezoneOffsetFromUTC" and isinstance(element.value, bytes):
            text = element.value.decode("ascii", "replace").strip()
            if len(text) == 5 and text[0] in "+-" and text[1:].isdigit() and text[1:] < "2400":
                offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
                return timezone(-offset if text[0] == "-" else offset)
    return None
