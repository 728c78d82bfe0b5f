"""Blanking of burned-in text where the site says that the images of a device have it (PS3.15 E.3.1, 113101)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset

from node.config.rule_condition import folded
from node.deidentify.profile_of_destination import PixelMask
from node.errors import GateError
from node.studies.pixel_size import check_pixel_size

_BLACK = {"MONOCHROME1": (), "MONOCHROME2": (), "RGB": (0, 0, 0), "YBR_FULL": (0, 128, 128)}
"""By Photometric Interpretation, each sample; of grey images it depends on how a pixel is stored."""
_NO_LONGER_TRUE = ("SmallestImagePixelValue", "LargestImagePixelValue")


def mask_of(dataset: Dataset, masks: Sequence[PixelMask]) -> PixelMask | None:
    """Return the first mask for the device and the size of an image."""

    def states(keyword: str, pattern: str) -> bool:
        return fnmatchcase(folded(str(dataset.get(keyword) or "").strip()), folded(pattern))

    size = (dataset.get("Rows"), dataset.get("Columns"))
    return next(
        (
            mask
            for mask in masks
            if (mask.rows, mask.columns) == size
            and states("Manufacturer", mask.manufacturer)
            and states("ManufacturerModelName", mask.model)
        ),
        None,
    )


def blank(dataset: FileDataset, mask: PixelMask) -> None:
    """Blank the areas of ``mask`` in every frame; compressed pixels are decoded, and stay so.

    Raises ``InputError`` when the pixels cannot be decoded, ``GateError`` when black cannot be told.
    """
    check_pixel_size(dataset)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.decompress(as_rgb=True, generate_instance_uid=False)
    black = _black(dataset)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), len(black)
    sign = "i" if dataset.PixelRepresentation else "u"
    stored = np.frombuffer(dataset.PixelData, f"<{sign}{dataset.BitsAllocated // 8}").copy()
    by_plane = samples > 1 and bool(dataset.get("PlanarConfiguration"))
    shape = (samples, mask.rows, mask.columns) if by_plane else (mask.rows, mask.columns, samples)
    pixels = stored[: frames * samples * mask.rows * mask.columns].reshape(frames, *shape)
    pixels = pixels.transpose(0, 2, 3, 1) if by_plane else pixels
    for left, top, width, height in mask.areas:
        pixels[:, top : top + height, left : left + width] = black
    dataset["PixelData"].value = stored.tobytes()
    for keyword in _NO_LONGER_TRUE:
        if keyword in dataset:
            del dataset[keyword]


def _black(dataset: FileDataset) -> tuple[int, ...]:
    """The value of each sample of a black pixel."""
    shown, bits = str(dataset.get("PhotometricInterpretation", "")), dataset.get("BitsAllocated")
    if shown not in _BLACK or bits not in (8, 16, 32) or (len(_BLACK[shown]) > 1 and bits != 8):
        raise GateError(
            f"not sent: text in {shown[:16] or 'unknown'} pixels of {bits} bits cannot be blanked; "
            "remove its mask, and let no rule send such images"
        )
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
        raise GateError("not sent: text in big-endian pixels cannot be blanked")
    if _BLACK[shown]:
        return _BLACK[shown]
    signed, used = int(bool(dataset.PixelRepresentation)), int(dataset.BitsStored)
    lowest = -(1 << used - 1) if signed else 0
    return (lowest,) if shown == "MONOCHROME2" else (lowest + (1 << used) - 1,)
