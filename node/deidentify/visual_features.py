"""Removal of the surface of the body from images and masks (PS3.15 E.3.2, 113102): no face is left to be recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.pixels.utils import pack_bits

from node.deidentify.head_volume import Region, fault_of, regions_of
from node.deidentify.source_images import SourceImage
from node.errors import GateError
from node.studies.frames import split_frames
from node.studies.grid import numbers
from node.studies.pixel_size import check_pixel_size

_REMEDY = "let no rule send it to a destination with clean recognizable visual features"
_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.2.1": "CT", "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR", "1.2.840.10008.5.1.4.1.1.4.1": "MR", "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}  # fmt: skip
"""Modality by SOP class: CT and MR, also Enhanced and Legacy Converted."""
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_WITHOUT_SURFACE = ("1.2.840.10008.5.1.4.1.1.88.",)
"""Reports and Key Object Selection."""
_NO_LONGER_TRUE = (
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries",
    "HistogramSequence",
)  # fmt: skip
_AIR_HU = -1000.0


@dataclass(frozen=True, eq=False)
class CleanPixels:
    """What the pixels of an object have to be."""

    kept: NDArray[np.bool_]
    """``[frame, row, column]``: those that are as they were."""
    blank: tuple[int, ...]
    """Stored value of all others, for each frame."""

    def are_in(self, dataset: Dataset) -> bool:
        """Whether all other pixels of an object are blank."""
        frames = zip(_frames_of(dataset.pixel_array, len(self.blank)), self.kept, self.blank, strict=True)
        return all(bool((frame[~kept] == blank).all()) for frame, kept, blank in frames)


def remove_surface(dataset: FileDataset, series: tuple[SourceImage, ...], *, is_result: bool) -> CleanPixels | None:
    """Blank what lies at or near the surface of the body, and around it; compressed pixels are decoded, and stay so.

    ``series``: the images of which the object is one, or of which it was made. ``None``: the object has
    nothing to blank. Raises ``GateError`` when the surface cannot be found, ``InputError`` when images cannot be
    decoded.
    """
    sop_class = str(dataset.get("SOPClassUID") or "")
    if sop_class.startswith(_WITHOUT_SURFACE):
        return None
    is_mask = is_result and sop_class in _SEGMENTATIONS
    if not is_mask and (sop_class not in _IMAGES or _IMAGES[sop_class] != dataset.get("Modality")):
        raise _withheld("only images of CT and MR, their segmentations and reports can be freed of a face")
    frames = split_frames(dataset)
    number = int(dataset.get("NumberOfFrames") or 1)
    if len(frames) != number:
        raise _withheld("its frames have no places of their own")
    if not is_result and (why := next(filter(None, map(fault_of, frames)), "")):
        raise _withheld(why)
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
        raise _withheld("big-endian pixels cannot be blanked")
    regions = regions_of(series)
    shown_pixels = np.stack([_shown_pixels(frame, regions) for frame in frames])
    clean = CleanPixels(shown_pixels, tuple(0 if is_mask else _blank(frame) for frame in frames))
    _write(dataset, clean)
    dataset.RecognizableVisualFeatures = "NO"
    return clean


def _withheld(why: str) -> GateError:
    return GateError(f"not sent to a destination with clean recognizable visual features: {why}; {_REMEDY}")


def _shown_pixels(frame: Dataset, regions: tuple[Region, ...]) -> NDArray[np.bool_]:
    if numbers(frame, "ImagePositionPatient", 3) is None or numbers(frame, "ImageOrientationPatient", 6) is None:
        raise _withheld("ImagePositionPatient or ImageOrientationPatient is absent")
    region = next((candidate for candidate in regions if candidate.is_of(frame)), None)
    if region is None:
        raise _withheld("no image of its series lies in its planes")
    try:
        return region.shown_pixels(frame)
    except GateError as error:
        raise _withheld(str(error)) from None


def _blank(frame: Dataset) -> int:
    """Return the stored value of air."""
    if frame.get("ModalityLUTSequence"):
        raise _withheld("a Modality LUT says what its values are")
    slope, intercept = numbers(frame, "RescaleSlope", 1), numbers(frame, "RescaleIntercept", 1)
    scale = 1.0 if slope is None or not slope[0] else float(slope[0])
    air = _AIR_HU if frame.get("Modality") == "CT" else 0.0
    value = round((air - (0.0 if intercept is None else float(intercept[0]))) / scale)
    bits, signed = int(frame.BitsStored), int(frame.PixelRepresentation)
    lowest = -(1 << bits - 1) if signed else 0
    return min(max(value, lowest), lowest + (1 << bits) - 1)


def _frames_of(pixels: NDArray[Any], number: int) -> NDArray[Any]:
    return pixels.reshape(number, *pixels.shape[-2:])


def _write(dataset: FileDataset, clean: CleanPixels) -> None:
    check_pixel_size(dataset)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.decompress(generate_instance_uid=False)
    pixels = _frames_of(dataset.pixel_array, len(clean.blank)).copy()
    for frame, kept, blank in zip(pixels, clean.kept, clean.blank, strict=True):
        frame[~kept] = blank
    data = pack_bits(pixels.ravel()) if int(dataset.BitsAllocated) == 1 else pixels.tobytes()
    dataset["PixelData"].value = data + b"\0" * (len(data) % 2)
    for keyword in (*_NO_LONGER_TRUE, "ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
