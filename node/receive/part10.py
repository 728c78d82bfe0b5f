"""What stands before the data set in a file (PS3.10 7.1): preamble, prefix and File Meta Information.

Written here and not with a data set: it differs by a few UIDs from file to file, and is part of every C-STORE.
"""

from __future__ import annotations

import struct

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_SHORT = struct.Struct("<HH2sH")


def file_header(
    *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, sender: str, receiver: str
) -> bytes:
    """The encoded header; ``sender`` and ``receiver`` are AE titles."""
    meta = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01" + b"".join(
        _element(number, vr, value)
        for number, vr, value in (
            (0x0002, b"UI", sop_class_uid),
            (0x0003, b"UI", sop_instance_uid),
            (0x0010, b"UI", transfer_syntax_uid),
            (0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            (0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            (0x0016, b"AE", sender),
            (0x0017, b"AE", sender),
            (0x0018, b"AE", receiver),
        )
    )
    return bytes(128) + b"DICM" + _SHORT.pack(2, 0, b"UL", 4) + len(meta).to_bytes(4, "little") + meta


def _element(number: int, vr: bytes, value: str) -> bytes:
    encoded = value.encode("latin-1", "replace")
    encoded += (b"\0" if vr == b"UI" else b" ") * (len(encoded) % 2)
    return _SHORT.pack(2, number, vr, len(encoded)) + encoded
