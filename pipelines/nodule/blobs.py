"""Blob filter: a classical second source of candidates, round bright spots in scale space.

The network behind knows few patients; a filter knows none and misses no shape that it has not seen (a cavity, a
calcified spot). It is meant to find too much: the classifier sorts.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage

from pipelines.nodule.candidates import Candidate, Crop

GRID_MM = 2.0
SIGMAS_MM = (1.6, 2.3, 3.2, 4.5, 6.4, 9.0)
"""Blobs of radius sigma * sqrt(3) answer best (Lindeberg 1998): 5.5 to 31 mm in diameter."""
DARKEST_HU, BRIGHTEST_HU = -1000.0, 150.0
"""Beyond, brightness says nothing about shape: a rib must not outshine what lies beside it."""
LEAST_HU = 40.0
"""Least rank (scale-normalised Laplacian times roundness) of a peak; a faint ground-glass nodule has about this."""
MAX_BLOBS = 150


def blobs(crop: Crop) -> list[Candidate]:
    """Peaks over place and scale of the negative Laplacian, weighed by their roundness, strongest first."""
    if not crop.inside.any():
        return []
    pooled = F.avg_pool3d(crop.hu[None, None].clamp(DARKEST_HU, BRIGHTEST_HU), int(GRID_MM))[0, 0].numpy()
    cells = _near(crop.inside)
    part = tuple(slice(2 * s.start, 2 * s.stop) for s in cells)
    inside = crop.inside[cells].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    smooth = np.empty((len(SIGMAS_MM), *inside.shape), np.float32)
    response = np.empty_like(smooth)
    for at, sigma in enumerate(SIGMAS_MM):
        smooth[at] = ndimage.gaussian_filter(pooled, sigma / GRID_MM)[part]
        np.multiply(ndimage.laplace(smooth[at]), -((sigma / GRID_MM) ** 2), out=response[at])
    summit = (response == largest_near(response)) & (response > LEAST_HU) & inside
    places = np.argwhere(summit)
    rank = response[summit] * _roundness(smooth, places)
    places[:, 1:] += [s.start for s in part]
    accepted: list[tuple[list[float], float, float]] = []
    for i in np.argsort(-rank):
        if rank[i] < LEAST_HU or len(accepted) == MAX_BLOBS:
            break
        middle = ((places[i][1:] + 0.5) * GRID_MM - 0.5).tolist()
        diameter = 2 * math.sqrt(3) * SIGMAS_MM[places[i][0]]
        if not any(math.dist(middle, m) < max(3.0, 0.35 * max(d, diameter)) for m, d, _ in accepted):
            accepted.append((middle, diameter, float(rank[i])))
    return [
        Candidate(centre=(float(z), float(y), float(x)), diameter_mm=float(d), bulge_hu=s)
        for (z, y, x), d, s in ((crop.to_source(np.array(m)), d, s) for m, d, s in accepted)
    ]


def _near(inside: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """The box of the cells that may hold a centre, with one more on each side, which filters of three voxels need."""
    box = ndimage.find_objects(inside.astype(np.int8))[0]
    return tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)


def largest_near(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Largest of each value and its neighbours along all axes: ``maximum_filter`` of 3, in a quarter of the time."""
    largest = values.copy()
    for axis in range(values.ndim):
        before = np.moveaxis(largest.copy(), axis, 0)
        after = np.moveaxis(largest, axis, 0)
        np.maximum(after[1:], before[:-1], out=after[1:])
        np.maximum(after[:-1], before[1:], out=after[:-1])
    return largest


def _roundness(smooth: npt.NDArray[np.float32], places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Least by greatest of the three curvatures (Hessian) at ``places`` (scale, z, y, x).

    1 for a ball, 0 for a vessel or a wall, less where one of them bends the other way.
    """
    near = np.clip(places[:, 1:, None] + [-1, 0, 1], 0, np.array(smooth.shape[1:])[:, None] - 1)
    cube = smooth[
        places[:, 0, None, None, None], near[:, 0, :, None, None], near[:, 1, None, :, None], near[:, 2, None, None, :]
    ].astype(float)
    hessian = np.empty((len(places), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            ahead, behind = np.ones(3, int), np.ones(3, int)
            if i == j:
                ahead[i], behind[i] = 2, 0
                bend = cube[:, *ahead] + cube[:, *behind] - 2 * cube[:, 1, 1, 1]
            else:
                corners = {}
                for a, b in ((0, 0), (0, 2), (2, 0), (2, 2)):
                    at = np.ones(3, int)
                    at[i], at[j] = a, b
                    corners[a, b] = cube[:, *at]
                bend = (corners[2, 2] + corners[0, 0] - corners[2, 0] - corners[0, 2]) / 4
            hessian[:, i, j] = hessian[:, j, i] = bend
    bends = np.linalg.eigvalsh(hessian)
    return bends[:, 2] / np.minimum(bends[:, 0], -1e-6)
