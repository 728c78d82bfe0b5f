"""Secondary captures that a container made, as pictures: their pixels only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset

from node.pipeline import Picture
from node.pipeline.picture import LARGEST_EDGE

_CAPTURES = {"1.2.840.10008.5.1.4.1.1.7"}
"""Secondary Capture Image Storage."""


def is_capture(dataset: Dataset) -> bool:
    """Whether it is one picture of 8 bits, in colour or grey, that is not too large to be shown."""
    rows, columns, samples = (int(dataset.get(name) or 0) for name in ("Rows", "Columns", "SamplesPerPixel"))
    return (
        str(dataset.get("SOPClassUID", "")) in _CAPTURES
        and min(rows, columns) > 0
        and max(rows, columns) <= LARGEST_EDGE
        and samples in (1, 3)
        and dataset.get("BitsAllocated") == 8
        and int(dataset.get("NumberOfFrames") or 1) == 1
    )


def picture_of(path: Path, number: int) -> Picture:
    """The picture in a file; raises what decoding raises."""
    dataset = pydicom.dcmread(path)
    pixels: NDArray[np.uint8] = np.asarray(dataset.pixel_array, np.uint8)  # YBR as RGB
    if pixels.ndim == 2:
        dark = dataset.PhotometricInterpretation == "MONOCHROME1"
        pixels = np.repeat((255 - pixels if dark else pixels)[..., None], 3, axis=2)
    return Picture(label=f"Picture {number}", pixels=np.ascontiguousarray(pixels))
