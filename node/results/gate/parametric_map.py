"""Parametric maps: a finite number per voxel, on the source's planes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from node.results.analysis import Source
from node.results.gate.planes import plane_faults


def map_faults(image: Dataset, source: Source) -> Iterator[str]:
    """Check that the map has one finite number per voxel and its frames lie on source images in order."""
    yield from plane_faults(image, source)
    values = np.frombuffer(image.FloatPixelData, np.float32)
    if values.size != int(image.NumberOfFrames) * int(image.Rows) * int(image.Columns):
        yield f"FloatPixelData has {values.size} values, not those of {image.NumberOfFrames} frames"
    elif not np.isfinite(values).all():
        yield "FloatPixelData holds values that are no numbers"
    positions = [f.PlanePositionSequence[0].ImagePositionPatient for f in image.PerFrameFunctionalGroupsSequence]
    cosines = np.reshape(np.asarray(source.datasets[0].ImageOrientationPatient, float), (2, 3))
    if (np.diff(np.asarray(positions, float) @ np.cross(*cosines)) <= 0).any():
        yield "frames do not run along the slice normal; viewers would show them reversed"
