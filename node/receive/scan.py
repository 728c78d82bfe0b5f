"""A walk over the element headers of a Little Endian data set in a file: for sound data sets, and quick.

It gives up on whatever is not plainly well-formed (``None``); ``head.read_head`` judges that then. Memory does not
grow with the data set: values, items of defined length and compressed frames are stepped over.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection

_WINDOW = 1 << 14
_LONGEST_VALUE = 1 << 10
"""Bytes read of a wanted value: more than any UID or code string may have, so that a longer one is seen to be wrong."""
_UNDEFINED = 0xFFFFFFFF
_CHARACTER_SET = 0x00080005
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""12 bytes of header with a 32 bit length (PS3.5 7.1.2)."""
_EXPLICIT = struct.Struct("<HH2sH")
_IMPLICIT = struct.Struct("<HHL")
_LENGTH = struct.Struct("<L")


def scan(  # noqa: C901, PLR0912 - one hot loop
    descriptor: int, start: int, end: int, *, implicit: bool, wanted: Collection[int]
) -> dict[int, str] | None:
    """Values of the wanted tags at the top level between two offsets of a file; "" for those that are not there.

    ``None`` unless every header from ``start`` on is known and leads to the next one, the last one to ``end``.
    """
    values = dict.fromkeys(wanted, "")
    nesting: list[str] = []  # "sequence", "item", "frames": what is open with undefined length
    window, base, position = b"", start, start
    while position < end:
        offset = position - base
        if not 0 <= offset <= len(window) - 12:
            window, base, offset = os.pread(descriptor, min(_WINDOW, end - position), position), position, 0
        if len(window) - offset < 8:
            return None
        group, element, length = _IMPLICIT.unpack_from(window, offset)
        tag, header = group << 16 | element, 8
        if group == 0xFFFE:
            if not _step(nesting, tag, length):
                return None
            position += header + (0 if length == _UNDEFINED else length)
            continue
        if nesting and nesting[-1] != "item":
            return None
        inside = "sequence"
        if not implicit:
            _, _, vr, length = _EXPLICIT.unpack_from(window, offset)
            if vr in _LONG_VR and len(window) - offset >= 12:
                header, length = 12, _LENGTH.unpack_from(window, offset + 8)[0]
                inside = "sequence" if vr == b"SQ" else "frames" if vr in (b"OB", b"OW") and not nesting else ""
            elif vr not in _SHORT_VR:
                return None
        position += header
        if length == _UNDEFINED:
            if not inside:
                return None
            nesting.append(inside)
            continue
        if length and ((tag in values and not nesting) or tag == _CHARACTER_SET):
            value = window[offset + header : offset + header + min(length, _LONGEST_VALUE)]
            if len(value) < min(length, _LONGEST_VALUE):
                value = os.pread(descriptor, min(length, _LONGEST_VALUE), position)
            text = value.decode("ascii", "replace")
            if tag != _CHARACTER_SET:
                values[tag] = text.strip(" \0")
            elif not (text.isascii() and text.isprintable()):
                return None
        position += length
    return values if position == end and not nesting else None


def _step(nesting: list[str], tag: int, length: int) -> bool:
    """Take an item or a delimiter (PS3.5 7.5); whether it may stand here."""
    around = nesting[-1] if nesting else ""
    if tag == _ITEM and around in {"sequence", "frames"}:
        if length != _UNDEFINED:
            return True
        nesting.append("item")
        return around == "sequence"
    if (tag == _ITEM_END and around == "item") or (tag == _SEQUENCE_END and around in {"sequence", "frames"}):
        nesting.pop()
        return length == 0
    return False
