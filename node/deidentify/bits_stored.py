"""Bits of pixels that Bits Stored does not cover: no decoder shows them, and old devices keep drawings there."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import iter_pixels

from node.errors import GateError
from node.studies.codestream import stated_precision
from node.studies.pixel_size import check_pixel_size


def check_bits_stored(dataset: FileDataset) -> None:
    """Raise ``GateError`` when pixels have values in bits that Bits Stored does not cover.

    Nothing looks for text or faces there (PS3.5 8.1.1: what they hold is not part of the image; until 2004 it could be
    an overlay). The sign of a pixel may go on in them. ``InputError`` when the pixels cannot be decoded.
    """
    allocated, stored = dataset.get("BitsAllocated"), dataset.get("BitsStored")
    if "PixelData" not in dataset or stored == allocated:
        return
    if not isinstance(stored, int) or not 0 < stored < allocated or dataset.get("HighBit", stored - 1) != stored - 1:
        raise GateError(
            f"not sent: BitsStored {stored} and HighBit {dataset.get('HighBit')} do not say which of {allocated} bits "
            "its pixels use; have the sender correct them"
        )
    if _cannot_have_more(dataset, stored):
        return
    check_pixel_size(dataset)
    for frame in iter_pixels(dataset, raw=True, correct_unused_bits=False):
        unused = 8 * frame.dtype.itemsize - stored
        if np.any((frame << unused) >> unused != frame):
            raise GateError(
                f"not sent: its pixels have values in bits that BitsStored ({stored}) does not cover, where an overlay "
                "or another picture may be; have the sender send it without them"
            )


def _cannot_have_more(dataset: FileDataset, stored: int) -> bool:
    """Whether every frame is compressed with as many bits as Bits Stored says, or fewer."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    number = int(dataset.get("NumberOfFrames") or 1)
    bits = (stated_precision(frame) for frame in generate_frames(dataset.PixelData, number_of_frames=number))
    return all(of is not None and of <= stored for of in bits)
