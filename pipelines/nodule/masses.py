"""Dense regions in or at a lung that are too large for the detector: masses and consolidations of about 3 cm and more.

Hearts, hila and diaphragms border on lung too. What tells a mass from them is where lung lies as seen from inside it:
rays in 26 directions meet the lung of its own side, below it as well, and towards the middle none passes into the
other lung. Arrays are ``[slice F->H, row A->P, column R->L]`` on ``GRID_MM``. Measured in MODEL_CARD.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.nodule.sides import GRID_MM

Mask = npt.NDArray[np.bool_]

GAS_HU = -960.0
"""What holds no tissue at all is thinner: even emphysema is denser."""
SOFT_HU = (-200.0, 150.0)
"""Tumour, consolidation and fluid, mixed with a little air at the rim; vessels with contrast medium are brighter."""
BONE_HU = 200.0
"""Rays end here."""
DIRECTIONS = tuple((z, y, x) for z, y, x in product((-1, 0, 1), repeat=3) if z or y or x)
BELOW = (-1, 0, 0)
REACH_MM = 90.0
MEDIAL_REACH_MM = 120.0
LEAST_SHARE = 0.35
"""Of all rays, for a mass at a wall."""
LEAST_BELOW = 4
"""Of the nine rays that go down, the vertical one among them: none such under a diaphragm or a heart."""
WITHIN = 0.7
"""Share of rays that suffices by itself: a mass surrounded by lung."""
LEAST_RADIUS_MM = 10.5
"""Of a ball that fits in; hilar vessels and most aortas are thinner."""
LEAST_ML = 7.0
RIM_MM = 6.0
"""A mass is larger than its core."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """A dense region; its ``mask`` is the core that rays identify, smaller than the mass."""

    mask: Mask
    diameter_mm: float
    """Of the sphere of the same volume."""

    @property
    def centre(self) -> tuple[float, float, float]:
        """Index in ``mask``."""
        z, y, x = np.argwhere(self.mask).mean(0)
        return float(z), float(y), float(x)

    def around(self, cell: npt.NDArray[np.float64]) -> bool:
        """Whether ``cell`` lies within the region or up to ``RIM_MM`` from it."""
        nearest = np.argwhere(self.mask) - cell
        return float(np.linalg.norm(nearest, axis=1).min()) * GRID_MM <= RIM_MM


def dense_regions(aerated: Mask, hu: npt.NDArray[np.float32], midline: float) -> list[Region]:
    """Large dense regions in and at the lungs, largest first."""
    gas = ndimage.binary_dilation(ndimage.binary_opening(hu < GAS_HU), iterations=2)
    lung = aerated & ~gas  # trachea, stomach and bowel are not
    if not lung.any():
        return []
    box = ndimage.find_objects(lung.astype(np.int8))[0]
    inside, dense, bone = lung[box], (hu[box] > SOFT_HU[0]) & (hu[box] < SOFT_HU[1]), hu[box] > BONE_HU
    right = np.broadcast_to(np.arange(lung.shape[2])[box[2]] < midline, inside.shape)
    masses = np.zeros_like(inside)
    for own, other, medial in ((inside & right, inside & ~right, 1), (inside & ~right, inside & right, -1)):
        masses |= dense & _as_from_a_mass(own, other, bone, medial)
    labels, count = ndimage.label(_opened(masses))
    regions = []
    for label in range(1, count + 1):
        volume = float((labels == label).sum()) * GRID_MM**3
        if volume >= LEAST_ML * 1000:
            mask = np.zeros_like(lung)
            mask[box] = labels == label
            regions.append(Region(mask=mask, diameter_mm=float(np.cbrt(6 * volume / np.pi))))
    return sorted(regions, key=lambda region: -region.diameter_mm)


def _as_from_a_mass(own: Mask, other: Mask, bone: Mask, medial: int) -> Mask:
    """Where the lung ``own`` lies around as it does round a mass, ``other`` being the lung in direction ``medial``."""
    every, below = np.zeros(own.shape, np.uint8), np.zeros(own.shape, np.uint8)
    for direction in DIRECTIONS:
        meets = _meets(own, bone, direction, REACH_MM)
        every += meets
        if direction[0] < 0:
            below += meets
        if direction == BELOW:
            vertical = meets
    share = every / len(DIRECTIONS)
    mediastinal = _meets(other, bone | own, (0, 0, medial), MEDIAL_REACH_MM)
    at_a_wall = (share >= LEAST_SHARE) & vertical & (below >= LEAST_BELOW)
    result: Mask = ~mediastinal & (at_a_wall | (share >= WITHIN))
    return result


def _meets(target: Mask, wall: Mask, direction: tuple[int, int, int], reach_mm: float) -> Mask:
    """Where a ray in ``direction`` meets ``target`` within ``reach_mm``, before ``wall``; true within ``target``."""
    reach = int(reach_mm / GRID_MM / np.linalg.norm(direction)) + 1
    axis = next(i for i, step in enumerate(direction) if step)
    step, (row, column) = direction[axis], [d for i, d in enumerate(direction) if i != axis]
    planes, walls = np.moveaxis(target, axis, 0), np.moveaxis(wall, axis, 0)
    height, width = planes.shape[1:]
    # Steps that are left of the reach, with a rim of zeros: each plane follows from the next one in the direction.
    left = np.zeros([n + 2 for n in planes.shape], np.uint8)
    for k in range(len(planes))[::-step]:
        ahead = left[k + 1 + step, 1 + row : 1 + row + height, 1 + column : 1 + column + width]
        left[k + 1, 1:-1, 1:-1] = np.where(planes[k], reach, np.where(walls[k], 0, ahead - (ahead > 0)))
    return np.moveaxis(left[1:-1, 1:-1, 1:-1] > 0, 0, axis)


def _opened(mask: Mask) -> Mask:
    """What balls of ``LEAST_RADIUS_MM`` that fit in ``mask`` cover; nothing fits in from outside the array."""
    radius = LEAST_RADIUS_MM / GRID_MM
    centres = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1] > radius
    if not centres.any():
        return centres
    opened: Mask = mask & (ndimage.distance_transform_edt(~centres) <= radius)
    return opened
