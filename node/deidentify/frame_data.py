"""Pixel data cut to the frames of its image: text and faces are looked for in frames only, so nothing else leaves."""

from __future__ import annotations

from itertools import islice

from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_fragments, generate_frames
from pydicom.uid import MPEGTransferSyntaxes, RLELossless

from node.deidentify.burned_in import PIXELS
from node.deidentify.codestreams import shown_codestream
from node.errors import GateError
from node.studies.pixel_size import check_pixel_size

_BITS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
"""Of a pixel, where Bits Allocated does not say so."""
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")


def cut_to_frames(dataset: FileDataset) -> None:
    """Cut the pixel data to as many frames as its header states; each compressed one becomes one fragment.

    Raises ``GateError`` when its frames cannot be told from what else is there.
    """
    for keyword in PIXELS:
        if keyword not in dataset:
            continue
        if keyword == "PixelData" and dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            _encapsulate(dataset, _frames(dataset))
        else:
            size = _native_size(dataset, _BITS.get(keyword) or dataset.get("BitsAllocated"))
            dataset[keyword].value = (dataset[keyword].value or b"")[: size + size % 2]
    for keyword in _OFFSETS:
        if keyword in dataset:
            del dataset[keyword]


def clean_codestreams(dataset: FileDataset) -> None:
    """Remove comments and trailing bytes from compressed frames; those of RLE are decoded, and stay so.

    Raises as ``shown_codestream``, and ``InputError`` when RLE cannot be decoded.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" not in dataset or not syntax.is_encapsulated:
        return
    if syntax == RLELossless:
        check_pixel_size(dataset)
        dataset.decompress(as_rgb=False, generate_instance_uid=False)
    else:
        _encapsulate(dataset, [shown_codestream(frame) for frame in _frames(dataset)])


def _frames(dataset: FileDataset) -> list[bytes]:
    if dataset.file_meta.TransferSyntaxUID in MPEGTransferSyntaxes:
        raise GateError("not sent: a video may have speech and texts that nobody looks at; let no rule send videos")
    number = int(dataset.get("NumberOfFrames") or 1)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:  # a fragment each, after the table of offsets
        frames = [*islice(generate_fragments(dataset.PixelData), 1, number + 1)]
    else:
        offsets = tuple(dataset[keyword].value for keyword in _OFFSETS if keyword in dataset)
        extended = offsets if len(offsets) == len(_OFFSETS) else None
        all_frames = generate_frames(dataset.PixelData, number_of_frames=number, extended_offsets=extended)
        frames = [*islice(all_frames, number)]
    if len(frames) < number:
        raise GateError(
            f"not sent: {len(frames)} frames are found in its pixel data, and its header says {number}; "
            "ask the sender for the image again"
        )
    return frames


def _encapsulate(dataset: FileDataset, frames: list[bytes]) -> None:
    fits = sum(len(frame) + 9 for frame in frames) < 1 << 32  # offsets of the table have 32 bits
    dataset["PixelData"].value = encapsulate(frames, has_bot=fits)
    dataset["PixelData"].is_undefined_length = True


def _native_size(dataset: FileDataset, bits: int | None) -> int:
    """Bytes of all frames."""
    size = (dataset.get("Rows"), dataset.get("Columns"), bits)
    if not all(isinstance(value, int) and value > 0 for value in size):
        raise GateError("not sent: Rows, Columns or BitsAllocated does not say how large its frames are")
    rows, columns, each = map(int, size)
    samples, frames = (int(dataset.get(keyword) or 1) for keyword in ("SamplesPerPixel", "NumberOfFrames"))
    return -(-rows * columns * each * samples * frames // 8)
