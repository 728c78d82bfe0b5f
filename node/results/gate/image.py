"""Result images: their pixels must lie where the source's pixels lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydicom import Dataset

from node.results.analysis import Source
from node.results.headers import by_frame, frame_key, rescale, single_image_class
from node.results.rendering import letter

Images = dict[tuple[str, int | None], Dataset]

POSITION_TOLERANCE_MM = 0.01
"""Largest distance between the position of a frame and of the image it was made from."""
DIRECTION_TOLERANCE = 1e-4
"""Largest difference of a direction cosine; pixel spacings are compared to the same in mm."""


def _far(ours: Sequence[Any] | None, theirs: Sequence[Any] | None, tolerance: float) -> bool:
    if ours is None or theirs is None or len(ours) != len(theirs):
        return ours is not theirs
    return bool(np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).max() > tolerance)


def seg_faults(seg: Dataset, source: Source) -> Iterator[str]:
    """Segments, frames and geometry of a SEG on the grid of its source."""
    numbers = [int(s.SegmentNumber) for s in seg.SegmentSequence]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"SegmentNumber runs {numbers}, not from 1 without gaps"
    tracking = [s.get("TrackingUID") for s in seg.SegmentSequence]
    if None in tracking or len(set(tracking)) != len(tracking):
        yield "TrackingUID is missing or repeats among the segments"
    first, frames = source.datasets[0], seg.PerFrameFunctionalGroupsSequence
    if (seg.Rows, seg.Columns) != (first.Rows, first.Columns):
        yield f"Rows x Columns {seg.Rows} x {seg.Columns} are not the source's {first.Rows} x {first.Columns}"
    if first.get("FrameOfReferenceUID") and seg.get("FrameOfReferenceUID") != first.FrameOfReferenceUID:
        yield "FrameOfReferenceUID is not the source's"
    if int(seg.NumberOfFrames) != len(frames):
        yield f"NumberOfFrames is {seg.NumberOfFrames}, the functional groups have {len(frames)}"
    expected = (int(seg.Rows) * int(seg.Columns) * len(frames) + 7) // 8
    if len(seg.PixelData) != expected + expected % 2:
        yield f"PixelData has {len(seg.PixelData)} bytes, {len(frames)} frames need {expected + expected % 2}"
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    if _far(cosines, first.ImageOrientationPatient, DIRECTION_TOLERANCE):
        yield "ImageOrientationPatient is not the source's"
    if _far(shared.PixelMeasuresSequence[0].PixelSpacing, first.PixelSpacing, DIRECTION_TOLERANCE):
        yield "PixelSpacing is not the source's"
    yield from _frame_faults(seg, shared, numbers, by_frame(source.datasets))


def _frame_faults(seg: Dataset, shared: Dataset, numbers: Sequence[int], images: Images) -> Iterator[str]:
    places: list[tuple[int, tuple[float, ...]]] = []
    indices: list[tuple[int, ...]] = []
    for frame in seg.PerFrameFunctionalGroupsSequence:
        segment = frame if "SegmentIdentificationSequence" in frame else shared
        number = int(segment.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        position = tuple(float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient)
        places.append((number, tuple(round(v, 3) for v in position)))
        indices.append(tuple(np.atleast_1d(frame.FrameContentSequence[0].DimensionIndexValues).tolist()))
        sources = [s for d in frame.get("DerivationImageSequence") or [] for s in d.get("SourceImageSequence") or []]
        if not sources:
            yield f"frame {len(places)} names no source image"
        for item in sources:
            image = images.get(frame_key(item))
            if image is None or _far(position, image.get("ImagePositionPatient"), POSITION_TOLERANCE_MM):
                yield f"frame {len(places)} does not lie on its source image"
    if max(Counter(places).values()) > 1:
        yield "two frames show one segment at one position"
    if max(Counter(indices).values()) > 1:
        yield "DimensionIndexValues repeat"
    # index values count the positions along the normal, one value for one position (PS3.3 C.7.6.17)
    pairs = sorted({(index[-1], place[1]) for index, place in zip(indices, places, strict=True)})
    cosines = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    steps = np.diff([np.cross(cosines[:3], cosines[3:]) @ position for _, position in pairs])
    if [i for i, _ in pairs] != list(range(1, len(pairs) + 1)) or not ((steps > 0).all() or (steps < 0).all()):
        yield "DimensionIndexValues do not follow the positions"
    shown = {number for number, _ in places}
    if shown != set(numbers):
        yield f"segments {sorted(set(numbers) ^ shown)} are described or shown, but not both"


_SAME = ("Rows", "Columns", "SamplesPerPixel", "FrameOfReferenceUID", "PhotometricInterpretation", "WindowCenter",
         "WindowWidth", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")  # fmt: skip

_TYPE = ("BitsAllocated", "BitsStored", "PixelRepresentation")


def _original(image: Dataset, source: Source) -> Dataset | None:
    """The source image that ``image`` says it was made from."""
    sources = image.get("SourceImageSequence") or []
    return by_frame(source.datasets).get(frame_key(sources[0])) if sources else None


def derived_faults(image: Dataset, source: Source) -> Iterator[str]:
    """A derived image has the geometry and rescale of the image it refers to, in its type or 16 bits."""
    original = _original(image, source)
    if original is None:
        yield "SourceImageSequence names no source image"
        return
    if image.SOPClassUID != single_image_class(original):
        yield f"SOPClassUID is {image.SOPClassUID}, not {single_image_class(original)}"
    if list(image.ImageType)[:2] != ["DERIVED", "SECONDARY"]:
        yield f"ImageType begins {list(image.ImageType)[:2]}, not DERIVED, SECONDARY"
    if not image.get("DerivationCodeSequence"):
        yield "DerivationCodeSequence is missing"
    if rescale(image) != rescale(original):
        yield "rescale slope and intercept are not the source's"
    for keyword in _SAME if "ReferencedFrameNumber" in original else (*_SAME, "InstanceNumber"):
        if image.get(keyword) != original.get(keyword):
            yield f"{keyword} is not the source's"
    if original.get("LossyImageCompression") == "01" and image.get("LossyImageCompression") != "01":
        yield "LossyImageCompression of the source is lost"
    yield from _pixel_faults(image, original)


def _pixel_faults(image: Dataset, original: Dataset) -> Iterator[str]:
    if any(image.get(keyword) != original.get(keyword) for keyword in _TYPE) and image.BitsStored != 16:
        yield "pixels are stored neither in the source's type nor in 16 bits"
    size = int(image.Rows) * int(image.Columns) * int(image.BitsAllocated) // 8
    compressed = image.file_meta.TransferSyntaxUID.is_compressed
    held = image.pixel_array.nbytes + size % 2 if compressed else len(image.PixelData)
    if held != size + size % 2:
        yield f"PixelData has {held} bytes, {size + size % 2} are needed"


def key_image_faults(image: Dataset, source: Source) -> Iterator[str]:
    """A key image is a colour picture that says of which image and how the patient lies in it."""
    original = _original(image, source)
    if original is None:
        yield "SourceImageSequence names no source image"
        return
    cosines = np.reshape(np.asarray(original.ImageOrientationPatient, float), (2, 3))
    if list(image.PatientOrientation) != [letter(cosine) for cosine in cosines]:
        yield f"PatientOrientation {list(image.PatientOrientation)} is not that of the source image"
    if image.get("BurnedInAnnotation") != "YES":
        yield "BurnedInAnnotation is not YES, but there is text in the picture"
    if (image.PhotometricInterpretation, image.SamplesPerPixel, image.BitsAllocated) != ("RGB", 3, 8):
        yield "it is not an 8 bit RGB picture"
    size = int(image.Rows) * int(image.Columns) * 3
    if len(image.PixelData) != size + size % 2:
        yield f"PixelData has {len(image.PixelData)} bytes, {size + size % 2} are needed"
    elif not np.ptp(np.frombuffer(image.PixelData, np.uint8)):
        yield "the picture is blank"
