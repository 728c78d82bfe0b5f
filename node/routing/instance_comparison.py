"""Comparison of two files of one SOP Instance: identity, encoding or content differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from node.ledger import ConflictKind
from node.spool.files import same_dataset
from node.studies.header import read_header
from node.studies.pydicom_errors import UNREADABLE

IDENTITY = frozenset(
    (
        "PatientID",
        "IssuerOfPatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyInstanceUID",
        "SeriesInstanceUID",
    )
)
"""Whose image it is: what a patient merge, an accession correction or a reused SOP Instance UID changes."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What changed, by keyword and never by value."""

    kind: ConflictKind
    keywords: tuple[str, ...]
    """In the order of their tags; private ones as ``(gggg,eeee)``. Of *identity*: only what makes it one."""


def compare_files(first: Path, second: Path) -> Difference:
    """Compare two files. Raises ``InputError`` when one cannot be read.

    Two machines may have received the same data set from two senders, whom the File Meta Information names.
    """
    if same_dataset(first, second):
        return Difference(kind=ConflictKind.ENCODING, keywords=("FileMetaInformation",))
    return compare(read_header(first), read_header(second))


def compare(first: Dataset, second: Dataset) -> Difference:
    """Compare two headers, read without pixel data, of files that differ.

    Where the headers agree, so do not the pixels: *content*, or *encoding* when the transfer syntax is another one.
    """
    tags = sorted(set(first.keys()) | set(second.keys()))
    changed = tuple(keyword_for_tag(tag) or str(tag) for tag in tags if not _equal(first, second, tag))
    identity = tuple(keyword for keyword in changed if keyword in IDENTITY)
    if identity:
        return Difference(kind=ConflictKind.IDENTITY, keywords=identity)
    if changed:
        return Difference(kind=ConflictKind.CONTENT, keywords=changed)
    if first.file_meta.TransferSyntaxUID != second.file_meta.TransferSyntaxUID:
        return Difference(kind=ConflictKind.ENCODING, keywords=("TransferSyntaxUID",))
    return Difference(kind=ConflictKind.CONTENT, keywords=("PixelData",))


def _equal(first: Dataset, second: Dataset, tag: BaseTag) -> bool:
    if tag not in first or tag not in second:
        return False
    element, other = first.get_item(tag), second.get_item(tag)
    if isinstance(element, RawDataElement) and isinstance(other, RawDataElement) and element.value == other.value:
        return True  # also where only one of them says of which VR a private element is
    try:
        return bool(first[tag].value == second[tag].value)
    except UNREADABLE:
        return False
