"""UIDs of the File Meta Information of a file that somebody uploads (PS3.10 7.1), read from its first bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass

from pydicom.filereader import data_element_generator
from pydicom.tag import Tag

from node.errors import InputError
from node.spool import META_BEGINS, is_uid, stated_offset
from node.studies.pydicom_errors import UNREADABLE

LARGEST_META = 1 << 16
"""Bytes."""
_PREFIX = slice(128, 132)
_WANTED = tuple(
    Tag(keyword) for keyword in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
)


@dataclass(frozen=True)
class Part10Meta:
    """What a presentation context and a C-STORE request need."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def part10_meta(beginning: bytes) -> Part10Meta | None:
    """Read the UIDs of a Part 10 file; ``None``: it is none.

    ``beginning``: its first bytes, ``LARGEST_META`` of them if it has so many. Raises ``InputError`` when the File Meta
    Information is damaged: such a file may be an image.
    """
    if beginning[_PREFIX] != b"DICM":
        return None
    end = stated_offset(beginning)
    if end is None or end + 2 > len(beginning) or beginning[end : end + 2] == b"\x02\x00":
        raise InputError("File Meta Information is damaged; export the file again")
    try:
        elements = data_element_generator(
            io.BytesIO(beginning[META_BEGINS:end]), is_implicit_VR=False, is_little_endian=True
        )
        values = {element.tag: element.value for element in elements}
        uids = [bytes(values[tag]).decode("ascii").strip(" \0") for tag in _WANTED]  # type: ignore[arg-type]
    except UNREADABLE as error:
        raise InputError("File Meta Information lacks a UID; export the file again") from error
    if not all(map(is_uid, uids)):
        raise InputError("File Meta Information contains an invalid UID; export the file again")
    return Part10Meta(*uids)
