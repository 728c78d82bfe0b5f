"""Segmentations and label maps: segments, frames and geometry on the grid of the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from node.results.analysis import Source
from node.results.gate.image_seg import image_seg_faults
from node.results.gate.planes import DIRECTION_TOLERANCE, POSITION_TOLERANCE_MM, far, plane_faults
from node.results.headers import by_frame, frame_key

_PIXEL_DATA = 0x7FE00010
Images = dict[tuple[str, int | None], Dataset]


def seg_faults(seg: Dataset, source: Source) -> Iterator[str]:
    """Segments, frames and geometry of a SEG on the grid of its source, or on the pixels of one image."""
    numbers = [int(s.SegmentNumber) for s in seg.SegmentSequence]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"SegmentNumber runs {numbers}, not from 1 without gaps"
    tracking = [s.get("TrackingUID") for s in seg.SegmentSequence]
    if None in tracking or len(set(tracking)) != len(tracking):
        yield "TrackingUID is missing or repeats among the segments"
    first, frames = source.datasets[0], seg.PerFrameFunctionalGroupsSequence
    if int(seg.NumberOfFrames) != len(frames):
        yield f"NumberOfFrames is {seg.NumberOfFrames}, the functional groups have {len(frames)}"
    expected = (int(seg.Rows) * int(seg.Columns) * len(frames) + 7) // 8
    if (stored := _stored_bytes(seg)) != expected + expected % 2:
        yield f"PixelData has {stored} bytes, {len(frames)} frames need {expected + expected % 2}"
    if "FrameOfReferenceUID" not in seg:
        yield from image_seg_faults(seg, source, numbers)
        return
    if (seg.Rows, seg.Columns) != (first.Rows, first.Columns):
        yield f"Rows x Columns {seg.Rows} x {seg.Columns} are not the source's {first.Rows} x {first.Columns}"
    if first.get("FrameOfReferenceUID") and seg.get("FrameOfReferenceUID") != first.FrameOfReferenceUID:
        yield "FrameOfReferenceUID is not the source's"
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    if far(cosines, first.ImageOrientationPatient, DIRECTION_TOLERANCE):
        yield "ImageOrientationPatient is not the source's"
    if far(shared.PixelMeasuresSequence[0].PixelSpacing, first.PixelSpacing, DIRECTION_TOLERANCE):
        yield "PixelSpacing is not the source's"
    yield from _frame_faults(seg, shared, numbers, by_frame(source.datasets))


def _stored_bytes(seg: Dataset) -> int:
    """Length of Pixel Data (7FE0,0010), which is not read; 0 without it."""
    pixels = next((element for element in seg.values() if element.tag == _PIXEL_DATA), None)
    if isinstance(pixels, RawDataElement):
        return pixels.length
    return 0 if pixels is None else len(pixels.value)


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
            if image is None or far(position, image.get("ImagePositionPatient"), POSITION_TOLERANCE_MM):
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


def label_faults(seg: Dataset, source: Source) -> Iterator[str]:
    """Check that voxel values are segment numbers, Background is last, and frames lie on source images."""
    numbers = [int(s.SegmentNumber) for s in seg.SegmentSequence]
    if numbers != [*range(1, len(numbers)), 0]:
        yield f"SegmentNumber runs {numbers}, not from 1 without gaps with Background, 0, last"
    yield from plane_faults(seg, source)
    shown = set(np.unique(seg.pixel_array).tolist())
    if shown - {0} != set(numbers) - {0}:
        yield f"segments {sorted((shown ^ set(numbers)) - {0})} are described or shown, but not both"
