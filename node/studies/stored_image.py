"""Stored images with their places in a volume, and how they get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut

from node.studies.pixel_data import read_pixels

_USED = (
    "Rows", "Columns", "ReferencedFrameNumber", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
)  # fmt: skip
_LARGEST_SLOPE, _LARGEST_INTERCEPT = 1 << 6, 1 << 23
"""With 16 bits stored, the result of whole numbers up to these is a whole number that float32 has."""
_SMALL_INTEGERS = ("|u1", "|i1", "<u2", "<i2")


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredImage:
    """One image and its place in a volume."""

    path: Path
    header: Dataset
    """What ``read_pixels`` needs of the image."""
    slice: int
    corner: tuple[int, int] = (0, 0)
    """Row and column of its first pixel."""
    is_compressed: bool = True

    @classmethod
    def of(cls, path: Path, header: Dataset, slice_: int, corner: tuple[int, int]) -> StoredImage:
        """Return it; of a compressed image with no more of ``header`` than is needed: it goes to another process."""
        syntax = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
        if syntax is not None and not syntax.is_compressed:
            return cls(path=path, header=header, slice=slice_, corner=corner, is_compressed=False)
        used = Dataset()
        for keyword in _USED:
            if keyword in header:
                used[keyword] = header[keyword]
        if hasattr(header, "file_meta") and "ModalityLUTSequence" in used:  # how its table is encoded
            used.file_meta = header.file_meta
        return cls(path=path, header=used, slice=slice_, corner=corner)


class Decoder(Protocol):
    """Decodes images in this process or in others."""

    def __call__(
        self, images: Sequence[StoredImage], shape: tuple[int, ...], *, padded: bool
    ) -> npt.NDArray[np.float32]:
        """Return a volume of ``shape`` with ``images`` in their places; see ``decode_images``."""


def decode_here(images: Sequence[StoredImage], shape: tuple[int, ...], *, padded: bool) -> npt.NDArray[np.float32]:
    """``Decoder`` in this process, one image after the other."""
    decoded = _decoded(images)
    first = next(decoded)  # before there is memory for the volume: a header can state any size
    volume = np.empty(shape, np.float32)
    for image, values in chain([first], decoded):
        _place(image, values, volume, padded=padded)
    return volume


def decode_images(images: Sequence[StoredImage], volume: npt.NDArray[np.float32], *, padded: bool) -> None:
    """Write the values of ``images`` to their places in ``volume`` ``[slice, row, column]``, Modality LUT applied.

    ``padded``: where an image is smaller than a slice, its least value surrounds it: air, or what the scanner pads
    with. Raises as ``read_pixels``.
    """
    for image, values in _decoded(images):
        _place(image, values, volume, padded=padded)


def _decoded(images: Sequence[StoredImage]) -> Iterator[tuple[StoredImage, npt.NDArray[Any]]]:
    for path, group in groupby(images, key=lambda image: image.path):
        same_file = list(group)
        yield from zip(same_file, read_pixels(path, [image.header for image in same_file], _values), strict=True)


def _place(image: StoredImage, values: npt.NDArray[Any], volume: npt.NDArray[np.float32], *, padded: bool) -> None:
    row, column = image.corner
    if padded:
        volume[image.slice] = values.min()
    volume[image.slice, row : row + values.shape[0], column : column + values.shape[1]] = values


def _values(stored: npt.NDArray[Any], header: Dataset) -> npt.NDArray[Any]:
    """``apply_modality_lut`` as float32, without the way through float64 where that makes no difference."""
    if stored.dtype.str in _SMALL_INTEGERS and "RescaleSlope" in header and not header.get("ModalityLUTSequence"):
        slope, intercept = header.RescaleSlope, header.get("RescaleIntercept")
        if _is_whole(slope, _LARGEST_SLOPE) and _is_whole(intercept, _LARGEST_INTERCEPT):
            values = stored.astype(np.float32)
            values *= np.float32(slope)
            values += np.float32(intercept)
            return values
    return np.asarray(apply_modality_lut(stored, header))


def _is_whole(value: Any, limit: int) -> bool:
    return isinstance(value, int | float) and float(value).is_integer() and abs(value) <= limit
