"""Data elements as bytes, Explicit VR Little Endian (PS3.5 7.1.2), for items that repeat thousands of times.

As data sets each costs milliseconds; pydicom writes an undecoded element as it is, and decodes it for who looks at it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

_ITEM = struct.Struct("<HHI")


def encoded(dataset: Dataset) -> bytes:
    """The elements of ``dataset``, without preamble and File Meta Information."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def text(keyword: str, value: str) -> bytes:
    """An element of a VR with ASCII text and a length of two bytes: UI, CS, DS, IS and the like."""
    head, padding = _head(keyword)
    data = value.encode("ascii")
    data += padding * (len(data) % 2)
    return head + struct.pack("<H", len(data)) + data


def reference(sop_class: str, uid: str) -> bytes:
    """Elements of a reference to a SOP Instance."""
    return text("ReferencedSOPClassUID", sop_class) + text("ReferencedSOPInstanceUID", uid)


def items(parts: Iterable[bytes]) -> bytes:
    """The value of a sequence whose items have the elements ``parts``."""
    return b"".join(piece for part in parts for piece in (_ITEM.pack(0xFFFE, 0xE000, len(part)), part))


def sequence(keyword: str, *parts: bytes) -> bytes:
    """A sequence element whose items have the elements ``parts``."""
    head, _ = _head(keyword)
    value = items(parts)
    return head + struct.pack("<HI", 0, len(value)) + value


def raw_sequence(keyword: str, parts: Iterable[bytes]) -> RawDataElement:
    """``sequence`` for a data set."""
    value = items(parts)
    return RawDataElement(Tag(keyword), "SQ", len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


@cache
def _head(keyword: str) -> tuple[bytes, bytes]:
    """Tag and VR, and what pads an odd value."""
    tag, vr = Tag(keyword), dictionary_VR(keyword)
    return struct.pack("<HH2s", tag.group, tag.element, vr.encode()), b"\0" if vr == "UI" else b" "
