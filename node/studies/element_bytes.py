"""Top-level elements of a data set as undecoded bytes; no nesting depth or invalid value stops the parser.

pydicom reads nested sequences by calling itself and fails at some hundred levels; a report of a failure must not.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Collection
from pathlib import Path
from struct import Struct, error

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from node.errors import InputError
from node.studies.pydicom_errors import NOT_DICOM

_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs with a length of 32 bits (PS3.5 7.1.2); any other, also one that nobody knows, has 16, as pydicom reads it."""
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
_PIXEL_DATA_GROUP = 0x7FE0
_TRANSFER_SYNTAX_UID = 0x00020010
_SERIES_INSTANCE_UID = 0x0020000E
_META_BYTES = 1 << 16
"""Of File Meta Information, which holds UIDs and titles."""
_MOST_ELEMENTS = 1 << 20
"""Elements and items that are walked: a second of computing; images have some thousands before their pixels."""
_HEAD_BYTES = 1 << 26
"""Of a deflated data set at most this much is inflated: what is wanted comes before the pixels."""
_VALUE_BYTES = 1 << 16
"""A longer value is no text of the Patient and Study modules."""


def top_elements(path: Path, wanted: Collection[int]) -> dict[int, bytes]:
    """Values of the ``wanted`` tags at the top level of a Part 10 file, in ascending order of the tags.

    Time and memory are bounded, whatever the file holds. The walk ends before the pixels. Where it can go no further,
    what was found counts, when the Series Instance UID is behind it. Raises ``InputError`` when it is not.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
                raise InputError(f"{path.name}: has no File Meta Information Group Length; this node did not write it")
            start = 144 + int.from_bytes(content[140:144], "little")
            if start > _META_BYTES:
                raise InputError(f"{path.name}: has {start} bytes of File Meta Information")
            meta, _ = _walk(content[144:start], 0, {*wanted, _TRANSFER_SYNTAX_UID}, ExplicitVRLittleEndian)
            syntax = meta.get(_TRANSFER_SYNTAX_UID, b"").decode("ascii", "replace").strip(" \0")
            if syntax != DeflatedExplicitVRLittleEndian:
                elements, last = _walk(content, start, set(wanted), syntax)
            else:
                head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:], _HEAD_BYTES)
                elements, last = _walk(head, 0, set(wanted), syntax)
    except NOT_DICOM as fault:
        raise InputError(f"{path.name}: cannot be read as DICOM ({fault}); ask the sender for it again") from fault
    if last < _SERIES_INSTANCE_UID:
        raise InputError(f"{path.name}: cannot be read beyond ({last >> 16:04X},{last & 0xFFFF:04X})")
    return {tag: value for tag, value in sorted({**meta, **elements}.items()) if tag in wanted}


def _walk(  # noqa: C901, PLR0912 - one loop
    content: bytes | mmap.mmap, at: int, wanted: set[int], syntax: str
) -> tuple[dict[int, bytes], int]:
    """Return the elements and the tag at which parsing ended."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    head, long = Struct(f"{order}HH"), Struct(f"{order}L")
    short = Struct(f"{order}H")
    implicit = syntax == ImplicitVRLittleEndian
    nesting: list[tuple[str, bool]] = []
    """What is open with undefined length, and whether VRs were implicit around it."""
    elements: dict[int, bytes] = {}
    last = 0
    try:
        for _ in range(_MOST_ELEMENTS):
            if at >= len(content):
                break
            group, number = head.unpack_from(content, at)
            vr, length = b"", long.unpack_from(content, at + 4)[0]
            after = at + 8
            if group == 0xFFFE:
                if number in (_ITEM_END, _SEQUENCE_END):
                    if not nesting:
                        break
                    implicit = nesting.pop()[1]
                elif number != _ITEM or not nesting:
                    break
                elif length == _UNDEFINED:
                    nesting.append(("item", implicit))
                else:
                    after += length
                at = after
                continue
            if not implicit:
                vr = bytes(content[at + 4 : at + 6])
                length = short.unpack_from(content, at + 6)[0]
                if vr in _LONG:
                    length, after = long.unpack_from(content, at + 8)[0], at + 12
            if not nesting:
                if group >= _PIXEL_DATA_GROUP:
                    break
                last = max(last, group << 16 | number)
            if length == _UNDEFINED:
                nesting.append(("sequence", implicit))
                implicit = implicit or vr == b"UN"  # PS3.5 6.2.2: then it is encoded like that inside
            else:
                if not nesting and group << 16 | number in wanted and length <= _VALUE_BYTES and vr != b"SQ":
                    elements[group << 16 | number] = bytes(content[after : after + length])
                after += length
            at = after
    except error:  # a header that the file has no room for
        pass
    return elements, last
