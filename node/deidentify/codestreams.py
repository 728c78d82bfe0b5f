"""Comments in compressed pixel data: JPEG, JPEG-LS and JPEG 2000 can hold text that no attribute shows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from pydicom.dataset import FileDataset
from pydicom.encaps import generate_fragments
from pydicom.uid import RLELossless

_START_OF_DATA = {0xDA, 0x90, 0x93}
"""SOS; SOT and SOD of JPEG 2000."""
_WITH_TEXT = {0xFE, 0x64, *range(0xE0, 0xF0)}
"""COM; COM of JPEG 2000; APPn."""
_WITHOUT_LENGTH = {0xD8, 0x4F, 0x01, *range(0xD0, 0xD8)}


def codestream_comments(dataset: FileDataset) -> Iterator[bytes]:
    """Yield the content of every comment and application segment in the headers of the frames of an object."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" not in dataset or not syntax.is_encapsulated or syntax == RLELossless:
        return
    fragments = generate_fragments(dataset.PixelData)
    next(fragments, None)  # Basic Offset Table
    yield from chain.from_iterable(_segments(fragment) for fragment in fragments)


def _segments(data: bytes) -> Iterator[bytes]:
    place = 0
    while place + 1 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        place += 2
        if marker in _START_OF_DATA:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[place : place + 2])
        if marker in _WITH_TEXT:
            yield data[place + 2 : place + length]
        place += max(length, 2)
