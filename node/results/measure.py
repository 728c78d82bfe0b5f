"""What the node itself measures of a mask on the source grid: outline, axes, volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator
from highdicom import VolumeGeometry
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from node.results.grid import PlacedMask

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """A mask on the slice where its area is greatest."""

    slice_index: int
    """Index along the first axis of the source grid."""
    outline: Floats
    """Closed polyline, ``(n, 2)`` of (column, row); 0, 0 is the outer corner of the first pixel (PS3.3 C.18.6)."""
    long_axis_mm: float
    """Greatest distance of two points of the outline."""
    short_axis_mm: float
    """Extent perpendicular to the long axis."""


def volume_mm3(mask: PlacedMask, geometry: VolumeGeometry) -> float:
    """Number of voxels times the volume of one."""
    return float(np.count_nonzero(mask.voxels) * abs(np.linalg.det(geometry.affine[:3, :3])))


def largest_section(mask: PlacedMask, geometry: VolumeGeometry) -> Section:
    """Outline and axes on the slice of greatest area, of the largest connected part there.

    The outline runs half-way between the centres of inner and outer pixels (marching squares at one half): the
    centres of exactly the mask's pixels are inside.
    """
    index = int(np.count_nonzero(mask.voxels, axis=(1, 2)).argmax())
    padded = np.pad(mask.voxels[index].astype(np.float64), 1)
    lines: list[Floats] = [np.asarray(line) for line in contour_generator(z=padded).lines(0.5)]
    line = max(lines, key=_area)
    # centre of padded pixel (1, 1) = centre of the box's first pixel = half a pixel from its outer corner
    outline = line - 0.5 + [mask.box[2].start, mask.box[1].start]
    row_spacing, column_spacing = (float(np.linalg.norm(geometry.affine[:3, a])) for a in (1, 2))
    long_axis, short_axis = _axes(outline * [column_spacing, row_spacing])
    return Section(
        slice_index=mask.box[0].start + index, outline=outline, long_axis_mm=long_axis, short_axis_mm=short_axis
    )


def _area(line: Floats) -> float:
    x, y = line[:-1].T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _axes(points: Floats) -> tuple[float, float]:
    hull = points[ConvexHull(points).vertices]
    distances = squareform(pdist(hull))
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    long_axis = float(distances[first, second])
    direction = (hull[second] - hull[first]) / long_axis
    across = hull @ [-direction[1], direction[0]]
    return long_axis, float(np.ptp(across))
