"""Alignment: the shift of the body between the volumes of two studies.

Normalised cross-correlation over all shifts at once, on coarse grids, of only those voxels that both volumes have
(Padfield, IEEE Transactions on Image Processing 2012). Turns are not looked for: patients lie alike.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import scipy
from highdicom import Volume
from numpy.typing import NDArray

_GRID_MM = 5.0
_LEAST_OVERLAP = 0.3
"""Of the smaller volume: a shift that leaves less in common proves nothing."""
_LEAST_CORRELATION = 0.5
"""What two scans of one body reach; two different regions do not."""
Array = NDArray[np.float64]


def shift_mm(now: Volume, then: Volume) -> Array | None:
    """What is added to a place in ``then`` to find it in ``now``, LPS mm, about half ``_GRID_MM`` exact.

    ``None`` when the volumes do not show the same part of one body.
    """
    first, first_mask, first_origin = _coarse(now)
    second, second_mask, second_origin = _coarse(then)
    shape = [scipy.fft.next_fast_len(a + b - 1, real=True) for a, b in zip(first.shape, second.shape, strict=True)]
    moved = [scipy.fft.rfftn(part, shape) for part in (first_mask, first, first**2)]
    fixed = [scipy.fft.rfftn(part, shape).conj() for part in (second_mask, second, second**2)]

    def of(a: int, b: int) -> Array:
        product: Array = scipy.fft.irfftn(moved[a] * fixed[b], shape)
        return product

    common = np.maximum(of(0, 0), 1.0)
    ours, theirs = of(1, 0), of(0, 1)
    spread = np.maximum(of(2, 0) - ours**2 / common, 0.0) * np.maximum(of(0, 2) - theirs**2 / common, 0.0)
    correlation = (of(1, 1) - ours * theirs / common) / np.sqrt(np.maximum(spread, 1e-6))
    correlation[common < _LEAST_OVERLAP * min(first_mask.sum(), second_mask.sum())] = -1.0
    best = np.array(np.unravel_index(int(correlation.argmax()), correlation.shape))
    if correlation.max() < _LEAST_CORRELATION:
        return None
    steps = np.where(best < first.shape, best, best - shape)
    return np.asarray(first_origin - second_origin + steps * _GRID_MM)


def _coarse(volume: Volume) -> tuple[Array, Array, Array]:
    """Values on a grid along the patient's axes (LPS), which voxels are inside, and where the first one lies in mm."""
    spacing = np.linalg.norm(np.asarray(volume.affine, float)[:3, :3], axis=0)
    array, affine = _blocks(volume, np.maximum(_GRID_MM // spacing, 1).astype(int))
    corners = np.array([affine @ (*edge, 1.0) for edge in product(*((0.0, n - 1.0) for n in array.shape))])[:, :3]
    origin = corners.min(axis=0)
    shape = tuple(int(n) for n in (corners.max(axis=0) - origin) // _GRID_MM + 1)
    clipped = np.clip(array, *np.percentile(array, (1, 99)))
    to_voxel = np.linalg.inv(affine)
    matrix, offset = to_voxel[:3, :3] * _GRID_MM, to_voxel[:3, :3] @ origin + to_voxel[:3, 3]
    sampled = scipy.ndimage.affine_transform(clipped, matrix, offset, shape, order=1, mode="nearest").astype(np.float64)
    inside = np.moveaxis(np.indices(shape), 0, -1) @ matrix.T + offset
    mask = ((inside > -0.5) & (inside < np.array(array.shape) - 0.5)).all(axis=-1).astype(np.float64)
    sampled -= sampled[mask > 0].mean()
    return sampled * mask, mask, origin


def _blocks(volume: Volume, size: NDArray[np.int_]) -> tuple[NDArray[Any], Array]:
    """Means of blocks of voxels, what is left at the ends cut off, and the affine of their centres."""
    blocks = np.array(volume.array.shape) // size
    whole = volume.array[tuple(slice(0, int(n)) for n in blocks * size)]
    means = whole.reshape([int(n) for pair in zip(blocks, size, strict=True) for n in pair]).mean(axis=(1, 3, 5))
    affine = np.array(volume.affine, float)
    affine[:3, 3] += affine[:3, :3] @ ((size - 1) / 2.0)
    affine[:3, :3] *= size
    return means, affine
