"""Planes of multi-frame objects: they must be planes of the source images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydicom import Dataset

from node.results.analysis import Source

POSITION_TOLERANCE_MM = 0.01
"""Largest distance between the position of a frame and of the image it was made from."""
DIRECTION_TOLERANCE = 1e-4
"""Largest difference of a direction cosine; pixel spacings are compared to the same in mm."""


def far(ours: Sequence[Any] | None, theirs: Sequence[Any] | None, tolerance: float) -> bool:
    """Return whether two vectors differ by more than ``tolerance`` or only one of them is present."""
    if ours is None or theirs is None or len(ours) != len(theirs):
        return ours is not theirs
    return bool(np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).max() > tolerance)


def plane_faults(image: Dataset, source: Source) -> Iterator[str]:
    """Check the size and Frame of Reference of a multi-frame object, and that each frame lies on a source image."""
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
