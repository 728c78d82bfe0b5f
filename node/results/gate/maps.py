"""Label maps and parametric maps: multi-frame objects on the source's planes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from node.results.analysis import Source
from node.results.gate.image import POSITION_TOLERANCE_MM


def label_faults(seg: Dataset, source: Source) -> Iterator[str]:
    """Check that voxel values are segment numbers, Background is last, and frames lie on source images."""
    numbers = [int(s.SegmentNumber) for s in seg.SegmentSequence]
    if numbers != [*range(1, len(numbers)), 0]:
        yield f"SegmentNumber runs {numbers}, not from 1 without gaps with Background, 0, last"
    yield from _plane_faults(seg, source)
    shown = set(np.unique(seg.pixel_array).tolist())
    if shown - {0} != set(numbers) - {0}:
        yield f"segments {sorted((shown ^ set(numbers)) - {0})} are described or shown, but not both"


def map_faults(image: Dataset, source: Source) -> Iterator[str]:
    """Check that the map has one finite number per voxel and its frames lie on source images in order."""
    yield from _plane_faults(image, source)
    values = np.frombuffer(image.FloatPixelData, np.float32)
    if values.size != int(image.NumberOfFrames) * int(image.Rows) * int(image.Columns):
        yield f"FloatPixelData has {values.size} values, not those of {image.NumberOfFrames} frames"
    elif not np.isfinite(values).all():
        yield "FloatPixelData holds values that are no numbers"
    positions = [f.PlanePositionSequence[0].ImagePositionPatient for f in image.PerFrameFunctionalGroupsSequence]
    cosines = np.reshape(np.asarray(source.datasets[0].ImageOrientationPatient, float), (2, 3))
    if (np.diff(np.asarray(positions, float) @ np.cross(*cosines)) <= 0).any():
        yield "frames do not run along the slice normal; viewers would show them reversed"


def _plane_faults(image: Dataset, source: Source) -> Iterator[str]:
    first = source.datasets[0]
    if (image.Rows, image.Columns) != (first.Rows, first.Columns):
        yield f"Rows x Columns {image.Rows} x {image.Columns} are not the source's {first.Rows} x {first.Columns}"
    if first.get("FrameOfReferenceUID") and image.get("FrameOfReferenceUID") != first.FrameOfReferenceUID:
        yield "FrameOfReferenceUID is not the source's"
    planes = np.asarray([[float(v) for v in d.ImagePositionPatient] for d in source.datasets])
    for number, frame in enumerate(image.PerFrameFunctionalGroupsSequence, 1):
        position = np.asarray(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        if np.abs(planes - position).max(axis=1).min() > POSITION_TOLERANCE_MM:
            yield f"frame {number} lies on no source image"
