"""Size and bits that a compressed frame states itself, read from its first markers; no decoder is called.

JPEG: ITU-T T.81 B.2; JPEG-LS: T.87 C.2; JPEG 2000 and HTJ2K: T.800 A.5.1.
"""

from __future__ import annotations

from struct import error, unpack_from

JPEG_START, JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
_FRAME_MARKERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS."""
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
BOXES = 1024
"""Bytes before the codestream in a JP2 file, which some devices write into the frame."""


def stated_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 frame states; ``None`` for anything else, or when cut off."""
    try:
        if frame.startswith(JPEG_START):
            rows, columns = unpack_from(">HH", frame, _jpeg_frame(frame) + 5)
            return rows, columns
        start = frame.find(JPEG_2000_START, 0, BOXES)
        if start >= 0:
            width, height, left, top = unpack_from(">4L", frame, start + 8)
            return height - top, width - left
    except (error, IndexError, ValueError):
        pass
    return None


def stated_precision(frame: bytes) -> int | None:
    """Bits of a sample, the most of any component; ``None`` as of ``stated_size``."""
    try:
        if frame.startswith(JPEG_START):
            return frame[_jpeg_frame(frame) + 4]
        start = frame.find(JPEG_2000_START, 0, BOXES)
        if start >= 0:
            (components,) = unpack_from(">H", frame, start + 40)
            return 1 + max(bits & 0x7F for bits in frame[start + 42 : start + 42 + 3 * components : 3])
    except (error, IndexError, ValueError):
        pass
    return None


def _jpeg_frame(frame: bytes) -> int:
    """Where its frame header begins. Raises ``ValueError`` or ``IndexError`` when there is none."""
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _FRAME_MARKERS:
            return at
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + unpack_from(">H", frame, at + 2)[0]
    raise ValueError("no frame header")
