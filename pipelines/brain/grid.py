"""The network's grid: 1 mm voxels along the axes of the patient, and which part of it holds the brain.

Arrays are ``[slice, row, column]`` growing to the patient's Left, Foot and Anterior, as the network was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[slice, slice, slice]
_DIRECTIONS = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]]).T
"""Columns: Left, Foot, Anterior in LPS."""


def patient_affine(volume: Volume, spacing_mm: float) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Affine (to LPS mm) and shape of the grid that covers the voxel centres of ``volume``.

    Voxels of a volume of the same spacing along the same axes are hit exactly.
    """
    last = np.asarray(volume.array.shape, float) - 1
    corners = np.array([[i, j, k, 1.0] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    along = (volume.affine @ corners.T)[:3].T @ _DIRECTIONS
    first, extent = along.min(axis=0), np.ptp(along, axis=0)
    affine = np.eye(4)
    affine[:3, :3] = _DIRECTIONS * spacing_mm
    affine[:3, 3] = _DIRECTIONS @ first
    sizes = np.floor(extent / spacing_mm + 1e-3).astype(int) + 1
    return affine, (int(sizes[0]), int(sizes[1]), int(sizes[2]))


def resample(
    array: NDArray[Any], affine: NDArray[np.float64], to: NDArray[np.float64], shape: Sequence[int]
) -> NDArray[np.float32]:
    """``array`` at the voxel centres of the grid ``to``, linearly interpolated; outside of it its least value."""
    matrix = np.linalg.inv(affine) @ to
    return np.asarray(
        ndimage.affine_transform(
            array, matrix[:3, :3], matrix[:3, 3], tuple(shape), np.float32, order=1, cval=float(array.min())
        )
    )


def box_of(mask: NDArray[np.bool_], margin: int) -> Box:
    """The box of a mask that is not empty, ``margin`` voxels wider on each side, within the array."""
    sides = []
    for axis, size in enumerate(mask.shape):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(slice(max(int(places[0]) - margin, 0), min(int(places[-1]) + 1 + margin, size)))
    return sides[0], sides[1], sides[2]


def cropped(affine: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """The affine of the part ``box`` of a grid."""
    moved = affine.copy()
    moved[:3, 3] = (affine @ [*(side.start for side in box), 1.0])[:3]
    return moved
