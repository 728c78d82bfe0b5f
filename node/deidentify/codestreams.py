"""Codestreams of JPEG, JPEG-LS and JPEG 2000 without what no decoder shows: comments, and bytes after their end.

Markers are followed (ITU-T T.81 annex B, T.87 annex C, T.800 annex A), and nothing is decoded.
"""

from __future__ import annotations

import re
from struct import error, unpack_from

from node.errors import GateError
from node.studies.codestream import BOXES, JPEG_2000_START, JPEG_START

_START_OF_SCAN, _START_OF_TILE, _TILE_DATA, _END, _JPEG_LS_FRAME = 0xDA, 0x90, 0x93, 0xD9, 0xF7
_WITH_TEXT = {0xFE, 0x64, *range(0xE0, 0xF0)}
"""COM; COM of JPEG 2000; APPn."""
_FOR_DECODERS = {*range(0xC0, 0xD0), *range(0xDA, 0xE0), 0xF7, 0xF8, *range(0x50, 0x64), *range(0x70, 0x7A), 0x90}
"""Tables and headers of JPEG, of JPEG-LS and of JPEG 2000, parts 1, 2 and 15."""
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_AFTER_JPEG_LS_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
"""Markers that are no restart; coded data has no such bytes, because a 0 is put after each FF."""


def shown_codestream(frame: bytes) -> bytes:
    """Return a frame up to the end of its image, with zeros in its comments and application segments.

    Lengths and places of segments stay: JPEG 2000 states some of them. Application segments tell decoders how colours
    are coded, so a frame in colour is not for this function.

    Raises ``GateError`` when the markers cannot be followed to the end of the image.
    """
    try:
        return _shown(frame)
    except (IndexError, StopIteration, ValueError, error):
        raise GateError(
            "not sent: its compressed pixels have no end or unknown markers, so it may hold more than its image; "
            "have the sender send it without compression"
        ) from None


def _shown(frame: bytes) -> bytes:
    """Raises one of those errors where the next marker is not what it has to be."""
    data = frame if frame.startswith(JPEG_START) else frame[frame.index(JPEG_2000_START, 0, BOXES) :]
    clean = bytearray(data)
    at, end_of_tile, after_scan = 2, 0, _AFTER_SCAN
    while True:
        while data[at : at + 2] == b"\xff\xff":  # a fill byte
            at += 1
        marker = data[at + 1] if data[at] == 0xFF else 0
        if marker == _END:
            return bytes(clean[: at + 2])
        if marker == _TILE_DATA:
            at = max(end_of_tile, at + 2) if end_of_tile else data.index(bytes((0xFF, _END)), at)
            continue
        if marker not in _FOR_DECODERS | _WITH_TEXT:
            raise ValueError(marker)
        (length,) = unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if marker in _WITH_TEXT:
            clean[at + 4 : end] = bytes(length - 2)
        elif marker == _START_OF_TILE:
            (length,) = unpack_from(">L", data, at + 6)
            end_of_tile = length and at + length
        elif marker == _JPEG_LS_FRAME:
            after_scan = _AFTER_JPEG_LS_SCAN
        elif marker == _START_OF_SCAN:
            end = next(after_scan.finditer(data, end)).start()
        at = end
