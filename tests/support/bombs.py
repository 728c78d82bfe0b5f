"""Data sets that are small on the line and huge, countless or endlessly deep for whoever reads them."""

from __future__ import annotations

import zlib

from dicom_files import ct_series
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from receivers import encode

UNDEFINED = b"\xff" * 4
_ATTRIBUTES = (0x0040, 0x0275)
"""Request Attributes Sequence."""


def header(syntax: str = ExplicitVRLittleEndian, uid: str = "1.2.3") -> bytes:
    """An encoded CT image without pixels that ends before group 0040."""
    (image,) = ct_series(1, 8)
    image.SOPInstanceUID = uid
    inflated = ExplicitVRLittleEndian if syntax == DeflatedExplicitVRLittleEndian else syntax
    return encode(Dataset({e.tag: e for e in image if e.tag < 0x00400000}), inflated)


def tag(group: int, element: int, syntax: str) -> bytes:
    order = "little" if UID(syntax).is_little_endian else "big"
    return group.to_bytes(2, order) + element.to_bytes(2, order)


def length(count: int, syntax: str) -> bytes:
    return count.to_bytes(4, "little" if UID(syntax).is_little_endian else "big")


def sequence(
    content: bytes, syntax: str = ExplicitVRLittleEndian, *, undefined: bool = False, vr: bytes = b"SQ"
) -> bytes:
    """``content`` as the value of Request Attributes Sequence."""
    head = tag(*_ATTRIBUTES, syntax) + (b"" if UID(syntax).is_implicit_VR else vr + b"\0\0")
    if undefined:
        return head + UNDEFINED + content + tag(0xFFFE, 0xE0DD, syntax) + bytes(4)
    return head + length(len(content), syntax) + content


def item(content: bytes = b"", syntax: str = ExplicitVRLittleEndian, *, undefined: bool = False) -> bytes:
    head = tag(0xFFFE, 0xE000, syntax)
    if undefined:
        return head + UNDEFINED + content + tag(0xFFFE, 0xE00D, syntax) + bytes(4)
    return head + length(len(content), syntax) + content


def deep(levels: int, syntax: str = ExplicitVRLittleEndian, *, undefined: bool, vr: bytes = b"SQ") -> bytes:
    """Request Attributes Sequence in an item of itself, again and again."""
    if undefined:
        begin, end = sequence(item(b"", syntax, undefined=True), syntax, undefined=True, vr=vr), 16
        return begin[:-end] * levels + begin[-end:] * levels
    inside = b""
    for _ in range(levels):
        inside = sequence(item(inside, syntax), syntax, vr=vr)
    return inside


def private(size: int) -> bytes:
    """The head of a private element of ``size`` bytes in group 0041; Explicit VR Little Endian."""
    return b"\x41\0\x10\x10OB\0\0" + size.to_bytes(4, "little")


def pixels(size: int) -> bytes:
    """The head of Pixel Data of ``size`` bytes; Explicit VR Little Endian."""
    return b"\xe0\x7f\x10\0OW\0\0" + size.to_bytes(4, "little")


def deflated(beginning: bytes, zeros: int) -> bytes:
    """Deflate ``beginning`` and this many zeros, whole MiB, 1 to 900."""
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    data = compressor.compress(beginning) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)  # can follow itself
    data += block * (zeros >> 20) + compressor.flush()
    return data + b"\0" * (len(data) % 2)
