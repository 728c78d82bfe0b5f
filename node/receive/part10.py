"""Preamble, prefix and File Meta Information of a Part 10 file (PS3.10 7.1).

Encoded without a pydicom data set for speed: only a few UIDs differ between files.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_SHORT = struct.Struct("<HH2sH")
_BEGINNING = bytes(128) + b"DICM" + _SHORT.pack(2, 0, b"UL", 4)
_VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"


def file_header(
    *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, sender: str, receiver: str
) -> bytes:
    """Encode the header; ``sender`` and ``receiver`` are AE titles."""
    sop_instance = _element(0x0003, b"UI", sop_instance_uid)
    before, after = _constant_elements(sop_class_uid, transfer_syntax_uid, sender, receiver)
    length = len(before) + len(sop_instance) + len(after)
    return b"".join((_BEGINNING, length.to_bytes(4, "little"), before, sop_instance, after))


@lru_cache(maxsize=256)
def _constant_elements(sop_class_uid: str, transfer_syntax_uid: str, sender: str, receiver: str) -> tuple[bytes, bytes]:
    """Encode the elements of group 0002 that are equal within a series: those before and after (0002,0003)."""
    after = (
        (0x0010, b"UI", transfer_syntax_uid),
        (0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        (0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        (0x0016, b"AE", sender),
        (0x0017, b"AE", sender),
        (0x0018, b"AE", receiver),
    )
    return _VERSION + _element(0x0002, b"UI", sop_class_uid), b"".join(_element(*element) for element in after)


def _element(number: int, vr: bytes, value: str) -> bytes:
    encoded = value.encode("latin-1", "replace")
    encoded += (b"\0" if vr == b"UI" else b" ") * (len(encoded) % 2)
    return _SHORT.pack(2, number, vr, len(encoded)) + encoded
