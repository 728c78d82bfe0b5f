"""The Basic Application Level Confidentiality Profile and its options: PS3.15 table E.1-1, as data.

``table_e_1_1.csv`` has a line for each attribute: tag, action of the Basic Profile, and the action (K or C) of each
option that has one. The file is of the edition 2026c; options of attributes that were added since 2024e are not used,
so that these are always removed. Groups 50xx and 60xx, and private attributes, are in ``deidentifier``.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pydicom.datadict import dictionary_VR, keyword_for_tag

from node.results.iod import is_current, required_of

BASIC = ("113100", "Basic Application Confidentiality Profile")
CONTENT = ("113104", "Clean Structured Content Option")
METHODS = {
    "clean pixel data": ("113101", "Clean Pixel Data Option"),
    "clean recognizable visual features": ("113102", "Clean Recognizable Visual Features Option"),
    "clean descriptors": ("113105", "Clean Descriptors Option"),
    "modified dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "patient characteristics": ("113108", "Retain Patient Characteristics Option"),
    "device identity": ("113109", "Retain Device Identity Option"),
}
"""Options of a destination, with their codes of CID 7050."""
_COLUMNS = {
    "clean descriptors": "descriptors",
    "modified dates": "dates",
    "patient characteristics": "patient",
    "device identity": "device",
}
UIDS_OF_KINDS = {
    "SOPClassUID", "MediaStorageSOPClassUID", "ReferencedSOPClassUID", "TransferSyntaxUID", "CodingSchemeUID",
    "ContextUID", "MappingResourceUID", "ReferencedTransferSyntaxUIDInFile",
    "AvailableTransferSyntaxUID", "OriginalSpecializedSOPClassUID", "RelatedGeneralSOPClassUID",
}  # fmt: skip
"""UIDs of kinds of things, also private ones, which identify no instance."""
_TEMPORAL = {"DA", "TM", "DT"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    basic: tuple[str, ...]
    """Action of the Basic Profile; several: the first that the IOD allows."""
    options: dict[str, str]
    """K (keep) or C (clean) by option; ``content`` is the Clean Structured Content Option."""

    @property
    def is_descriptor(self) -> bool:
        """Whether it is a description, which may name anybody, and no identifier."""
        return "descriptors" in self.options


@cache
def table() -> dict[int, Row]:
    """Return the table by tag."""
    with (resources.files(__package__) / "table_e_1_1.csv").open(encoding="ascii") as lines:
        return {
            int(tag, 16): Row(
                basic=tuple(basic.split("/")), options=dict(entry.split(":") for entry in options.split())
            )
            for tag, basic, options in csv.reader(lines)
        }


def action(tag: int, options: Collection[str], sop_class: str, *, is_nested: bool) -> str | None:
    """Return K, C, X, Z, D or U for an attribute; ``None``: it is not in the table.

    Where the table leaves the choice to the IOD: X unless the attribute is of type 1 (D) or type 2 (Z) there. In items
    of sequences, and for objects of unknown IODs, what is not removed is valid for any type. References to images
    (X/Z/U*) are kept with other UIDs, so that the objects still refer to each other.
    """
    row = table().get(tag)
    if row is None:
        return None
    chosen = {row.options[_COLUMNS[name]] for name in options if _COLUMNS.get(name) in row.options}
    if row.options.get("content"):
        return "C"
    if "dates" in row.options and vr_of(tag) in _TEMPORAL:
        chosen &= {"C"}  # a retained device does not retain a date
    if chosen:
        return "K" if "K" in chosen else "C"
    if len(row.basic) == 1:
        return row.basic[0]
    if "U*" in row.basic:
        return "U"
    if is_nested or not is_current(sop_class):
        return "D" if "D" in row.basic else "Z"
    first, second = _types(sop_class)
    keyword = keyword_for_tag(tag)
    if keyword in first:
        return "D" if "D" in row.basic else "Z"
    if "Z" in row.basic and (keyword in second or "X" not in row.basic):
        return "Z"
    return "X" if "X" in row.basic and keyword not in second else "D"


def vr_of(tag: int) -> str:
    """Return the value representation of an attribute of the standard; "" for one that pydicom does not know."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


@cache
def _types(sop_class: str) -> tuple[frozenset[str], frozenset[str]]:
    """Keywords of type 1 and of type 2 in the mandatory modules."""
    modules = [*required_of(sop_class)]
    return (
        frozenset(keyword for _, first, _ in modules for keyword in first),
        frozenset(keyword for _, _, second in modules for keyword in second),
    )
