"""Pixels of one file: stored values, values after the Modality LUT, and what a viewer first shows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import iter_pixels, pixel_array

from node.errors import InputError
from node.pipeline import Unsuitable
from node.studies.bounded_file import BoundedFile
from node.studies.pixel_size import check_pixel_size
from node.studies.pydicom_errors import NOT_DICOM, UNDECODABLE
from node.studies.stored_pixel_data import behind_header
from node.translation import sentence

Array = NDArray[Any]
_PADDING_HU = -1500.0
"""No air and no noise in it is darker: scanners pad with -2000, -2048, -3024 HU and less, and seldom declare it."""
_FAR = 1e15
"""Beyond any stored value."""


def read_pixels(
    path: Path, headers: Sequence[Dataset], lut: Callable[[Array, Dataset], Array], *, colour: bool = False
) -> Iterator[Array]:
    """Yield the values of one file, a single image or the frames of ``headers``, through ``lut``.

    ``colour``: images in colour are decoded, too, to RGB ``[row, column, sample]`` or to the entries of a palette.
    Raises ``Unsuitable`` for others in colour, ``InputError`` when pixel data cannot be decoded.
    """
    uid: object = path.name
    try:
        with BoundedFile(path) as file:
            dataset = behind_header(file, headers[0])
            if dataset is None:
                dataset = dcmread(file)
        uid = dataset.get("SOPInstanceUID", "")
        if int(dataset.get("SamplesPerPixel") or 1) != 1 and not colour:
            raise Unsuitable(sentence("the images are in colour; grey-scale images are needed"))
        check_pixel_size(dataset)
        frames = [int(h.ReferencedFrameNumber) - 1 for h in headers if "ReferencedFrameNumber" in h]
        decoded = iter_pixels(dataset, indices=frames) if frames else iter([pixel_array(dataset)])
        for header in headers:
            stored = next(decoded)
            shape = (int(header.Rows), int(header.Columns))
            if stored.shape[:2] != shape or stored.ndim > (3 if colour else 2):
                raise InputError(f"PixelData of {uid} is {stored.shape}, header says {shape}")
            yield np.asarray(lut(stored, header))
    except (*UNDECODABLE, *NOT_DICOM) as error:
        raise InputError(
            f"PixelData of {uid} cannot be decoded ({error}); ask the sender for the image again"
        ) from error


def sampled(pixels: Array, header: Dataset) -> Array:
    """Values of every fourth row and column, without Pixel Padding Value (PS3.3 C.7.5.1.1.2) and what pads a CT."""
    stored = pixels[::4, ::4].ravel()
    values = np.asarray(apply_modality_lut(stored, header))
    inside = ~padding(stored, header)
    if header.get("Modality") == "CT":
        inside &= values > _PADDING_HU
    return values[inside]


def padding(stored: Array, header: Dataset) -> NDArray[np.bool_]:
    """Where stored values are Pixel Padding Value, or in the range up to Pixel Padding Range Limit."""
    if header.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, np.bool_)
    limits = [header.PixelPaddingValue, header.get("PixelPaddingRangeLimit") or header.PixelPaddingValue]
    # as stored: an unsigned value in the header of signed pixels is meant as the same bits
    low, high = sorted(np.array(limits, np.int64).astype(stored.dtype))
    return np.asarray((stored >= low) & (stored <= high))


def displayed(stored: Array, header: Dataset) -> NDArray[np.float32]:
    """Grey levels from 0, black, to 1, white: Modality LUT, first VOI LUT or window, MONOCHROME1 inverted.

    Without a usable VOI LUT or window (PS3.3 C.11.2) all values are shown, from the least to the greatest that is no
    padding.
    """
    values = np.asarray(apply_modality_lut(stored, header))
    shown = _voi(values, header)
    if shown is None:
        inside = values[~padding(stored, header)]
        low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
        shown = (np.clip(values, low, high) - low) / max(high - low, 1e-6)
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        shown = 1 - shown
    return np.asarray(shown, np.float32)


def _voi(values: Array, header: Dataset) -> Array | None:
    """Return ``values`` after VOI LUT or window, 0 to 1; ``None`` where there is none, or none that can be used."""
    table = header.get("VOILUTSequence")
    if not table and (header.get("WindowCenter") is None or header.get("WindowWidth") is None):
        return None
    try:
        if table:
            shown = apply_voi_lut(values.astype(np.int64), header)
            black, white = 0.0, float(2 ** int(table[0].LUTDescriptor[2]) - 1)
        else:  # which output is black depends on the stored bits and on the Modality LUT: the extremes show it
            shown = apply_voi_lut(values, header)
            black, white = (float(value) for value in apply_voi_lut(np.array([-_FAR, _FAR]), header))
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError):
        return None
    return np.clip((shown - black) / (white - black), 0, 1) if black < white else None


def in_colour(stored: Array, header: Dataset) -> NDArray[np.uint8]:
    """RGB ``[row, column, 3]`` of what a viewer first shows; grey images have three equal samples."""
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        rgb = apply_color_lut(stored, header)
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
    elif stored.ndim == 3:
        rgb, bits = stored, int(header.get("BitsStored") or 8)
    else:
        grey = np.rint(displayed(stored, header) * 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(rgb[:, :, :3] >> max(bits - 8, 0)).astype(np.uint8)
