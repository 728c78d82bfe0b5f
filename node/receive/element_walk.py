"""Fast walk over the element headers of a well-formed Little Endian data set in a file.

Returns ``None`` for anything unusual and for what may nest too deep; ``dataset_structure`` then decides. Memory is
constant: values, short sequences of defined length and compressed frames are skipped.
"""

from __future__ import annotations

import os
import struct
from functools import lru_cache

WINDOW = 1 << 14
"""Bytes that are read at once; the headers of most images are shorter."""
LONGEST_VALUE = 1 << 10
"""Bytes read of a wanted value: longer than any valid UID or code string, so that a longer value is detected."""
UNDEFINED = 0xFFFFFFFF
"""Length of a value that a delimiter ends (PS3.5 7.5)."""
MOST_NESTED = 64
"""Sequences within one another; SR trees and private headers have about a dozen, and readers are recursive."""
_SHALLOW = 16 * MOST_NESTED
"""Bytes of a sequence that are too few to exceed it: a sequence with an item has two headers of 8 bytes."""
CHARACTER_SET = 0x00080005
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
"""Elements of group FFFE."""
HEADER_SIZES = dict.fromkeys(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split(), 8) | (
    dict.fromkeys(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split(), 12)
)
"""By VR (PS3.5 7.1.2): 12 bytes hold a 32 bit length."""
_SHORT = frozenset(vr for vr, size in HEADER_SIZES.items() if size == 8)
_SEQUENCES = frozenset((b"SQ", b"UN"))
_ITEM_TAG = b"\xfe\xff\x00\xe0"
_EXPLICIT = struct.Struct("<L2sH")
_LENGTH = struct.Struct("<L")


def scan(  # noqa: C901, PLR0912 - one hot loop
    descriptor: int, start: int, end: int, *, implicit: bool, wanted: tuple[int, ...], beginning: bytes = b""
) -> dict[int, str] | None:
    """Read the wanted top-level elements between two offsets of a file; "" for absent ones.

    Returns ``None`` unless every header is valid and leads to the next one, and the last one to ``end``.
    ``beginning``: bytes of the file from ``start`` on, if known already.
    """
    values = dict.fromkeys(wanted, "")
    tags, unpack = _tag_numbers(wanted), _EXPLICIT.unpack_from
    nesting: list[str] = []  # "sequence", "item", "frames": what is open with undefined length
    window, base, offset, last = beginning, start, 0, len(beginning) - 12
    while base + offset < end:
        if offset > last:
            base += offset
            window, offset = os.pread(descriptor, min(WINDOW, end - base), base), 0
            if len(window) < 8:
                return None
            last = len(window) - 12
        number, vr, length = unpack(window, offset)
        if not (implicit or nesting):
            while vr in _SHORT and number not in tags and (after := offset + 8 + length) <= last:  # the common case
                offset = after
                number, vr, length = unpack(window, offset)
        header = 8
        if implicit or number & 0xFFFF == 0xFFFE:
            length = _LENGTH.unpack_from(window, offset + 4)[0]
        if number & 0xFFFF == 0xFFFE:
            if not _step(nesting, number >> 16, length):
                return None
            offset += header + (0 if length == UNDEFINED else length)
            continue
        if nesting and nesting[-1] != "item":
            return None
        if not implicit:
            header = HEADER_SIZES.get(vr, 0)
            if header == 12 and offset <= last:
                length = _LENGTH.unpack_from(window, offset + 8)[0]
            elif header != 8:
                return None
        offset += header
        if length == UNDEFINED:
            inside = "sequence" if implicit or vr == b"SQ" else "frames"
            if inside == "frames" and (vr not in (b"OB", b"OW") or nesting):
                return None
            nesting.append(inside)
            if len(nesting) > 2 * MOST_NESTED:
                return None
            continue
        if length > _SHALLOW - 8 * len(nesting) and (implicit or vr in _SEQUENCES):
            first = window[offset : offset + 4]
            if vr == b"SQ" or first == _ITEM_TAG or len(first) < 4:
                return None
        if number in tags and length and (not nesting or tags[number] == CHARACTER_SET):
            value = window[offset : offset + min(length, LONGEST_VALUE)]
            if len(value) < min(length, LONGEST_VALUE):
                value = os.pread(descriptor, min(length, LONGEST_VALUE), base + offset)
            text = value.decode("ascii", "replace")
            if tags[number] != CHARACTER_SET:
                values[tags[number]] = text.strip(" \0")
            elif not (text.isascii() and text.isprintable()):
                return None
        offset += length
    return values if base + offset == end and not nesting else None


@lru_cache
def _tag_numbers(wanted: tuple[int, ...]) -> dict[int, int]:
    """Map tags as they are read from the file (group in the low half) to tag numbers."""
    delimiters = (0xFFFE << 16 | element for element in (_ITEM, _ITEM_END, _SEQUENCE_END))
    return {tag >> 16 | (tag & 0xFFFF) << 16: tag for tag in (*wanted, CHARACTER_SET, *delimiters)}


def _step(nesting: list[str], element: int, length: int) -> bool:
    """Process an item or delimiter (PS3.5 7.5); return whether it is valid at this position."""
    around = nesting[-1] if nesting else ""
    if element == _ITEM and around in {"sequence", "frames"}:
        if length != UNDEFINED:
            return True
        nesting.append("item")
        return around == "sequence"
    if (element == _ITEM_END and around == "item") or (element == _SEQUENCE_END and around in {"sequence", "frames"}):
        nesting.pop()
        return length == 0
    return False
