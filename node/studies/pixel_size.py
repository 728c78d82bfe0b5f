"""The size that an image states, checked against its bytes before any decoder or array has memory for it."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.encaps import generate_frames

from node.errors import InputError
from node.studies.codestream import stated_size
from node.studies.jpeg_2000 import prefer_openjpeg
from node.studies.jpeg_extended import add_decoder
from node.studies.pydicom_errors import UNDECODABLE

LARGEST_FRAME = 1 << 28
"""Bytes of one decoded frame: 16,384 x 8,192 pixels of 16 bits, several times the largest radiograph."""
_PIXELS = (("PixelData", 0), ("FloatPixelData", 32), ("DoubleFloatPixelData", 64))
"""Where the pixels are, and the bits of one where Bits Allocated does not say so."""

add_decoder()
prefer_openjpeg()


def check_pixel_size(dataset: Dataset) -> None:
    """Raise ``InputError`` naming the instance unless its pixel data can hold the frames that its header states.

    Frames of JPEG, JPEG-LS and JPEG 2000 state a size of their own, which must be that of the header. What has no
    pixel data is left to who reads it.
    """
    try:
        fault = next(_faults(dataset), "")
    except UNDECODABLE as error:
        fault = f"cannot be taken apart ({error})"
    if fault:
        uid = dataset.get("SOPInstanceUID", "")
        raise InputError(f"PixelData of {uid} cannot be decoded: it {fault}; ask the sender for the image again")


def _faults(dataset: Dataset) -> Iterator[str]:
    keyword, bits = next(((name, bits) for name, bits in _PIXELS if name in dataset), ("", 0))
    if not keyword:
        return
    rows, columns, samples, frames = (
        int(dataset.get(name) or 1) for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
    )
    bits = bits or int(dataset.get("BitsAllocated") or 8)
    if min(rows, columns, samples, frames, bits) < 1:
        yield f"has {rows} rows, {columns} columns, {samples} samples, {frames} frames and {bits} bits"
    size = rows * columns * samples * bits
    if size > LARGEST_FRAME * 8:
        yield f"has frames of {size >> 23} MiB ({rows} x {columns}); at most {LARGEST_FRAME >> 20} MiB are decoded"
    data = dataset[keyword].value or b""
    compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    if compressed and keyword == "PixelData":
        # An item of a fragment has 8 bytes at least.
        if frames > len(data) // 8:
            yield f"has {len(data)} bytes, fewer than {frames} frames need"
        offsets = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
        extended = None if None in offsets else offsets
        for frame in generate_frames(data, number_of_frames=frames, extended_offsets=extended):
            stated = stated_size(frame)
            if stated is not None and stated != (rows, columns):
                yield f"is {stated[0]} x {stated[1]}, header says {rows} x {columns}"
    elif size * frames // 8 > len(data) * _subsampling(dataset):
        yield f"has {len(data)} bytes, header says {size * frames // 8} ({rows} x {columns}, {frames} frames)"


def _subsampling(dataset: Dataset) -> float:
    """YBR_FULL_422 without compression stores two of three samples (PS3.3 C.7.6.3.1.2)."""
    return 1.5 if dataset.get("PhotometricInterpretation") == "YBR_FULL_422" else 1
