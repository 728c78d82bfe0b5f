"""Where in the chest a reported place lies, as seen from the lungs and bones round it: to sort false reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.nodule.lungs import AIR_HU, Lungs, to_grid
from pipelines.nodule.sides import GRID_MM

Mask = npt.NDArray[np.bool_]

BONE_HU = 200.0
"""Outside of the lungs and not between them, where the heart and vessels with contrast medium are as bright."""
LEAST_BONE_ML = 1.0
"""Smaller bright parts are calcifications and contrast medium in small vessels."""
NEAR_BONE_MM = 6.0
"""From the surface of what is reported to a bone."""
CARTILAGE_MM = 15.0
"""The same at the front, where ribs continue as cartilage, which is no denser than muscle."""
FRONT = 0.3
"""Share of the lungs' depth at a level that counts as front."""
REACH_MM = 45.0
"""How far lung is looked for below, above, and towards both sides."""
MEDIAL_SHARE = 1 / 3
"""Less lung than this towards the midline is a bronchus, not lung."""
NEAR_WALL_MM = 4.0
HILUM = (0.3, 0.75)
"""Of the lungs' height from below; mediastinal places between are at a hilum."""
HILUM_DEPTH = (0.25, 0.75)
"""The same of their depth at a level, from the front."""
HILUM_MM = 15.0
"""Least distance from the midline for a hilum."""
PLACES = (
    "rib",
    "costochondral joint",
    "diaphragm",
    "hilum or vessel at it",
    "mediastinum",
    "wall",
    "within the lung",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChestAnatomy:
    """Air and bone of a scan on cells of ``GRID_MM``, axes ``[slice F->H, row A->P, column R->L]``."""

    aerated: Mask
    bone: Mask
    outside_mm: npt.NDArray[np.float64]
    """From each cell of the closed lungs to the nearest one outside of them."""
    bone_mm: npt.NDArray[np.float64]
    midline: float

    @classmethod
    def of(cls, hu: npt.NDArray[np.float32], spacing: tuple[float, float, float], lungs: Lungs) -> ChestAnatomy:
        """Of a scan in HU; ``lungs`` are those of the same scan."""
        small = to_grid(hu, spacing, GRID_MM).numpy()
        aerated = lungs.mask & (small < AIR_HU)
        between = np.maximum.accumulate(aerated, 2) & np.maximum.accumulate(aerated[:, :, ::-1], 2)[:, :, ::-1]
        labels, count = ndimage.label((small > BONE_HU) & ~between)
        volume_ml = np.bincount(labels.ravel(), minlength=count + 1) * GRID_MM**3 / 1000
        bone = (labels > 0) & (volume_ml >= LEAST_BONE_ML)[labels]
        away = ndimage.distance_transform_edt(~bone) * GRID_MM if bone.any() else np.full(bone.shape, np.inf)
        return cls(
            aerated=aerated,
            bone=bone,
            outside_mm=ndimage.distance_transform_edt(lungs.mask) * GRID_MM,
            bone_mm=away,
            midline=lungs.midline,
        )

    def place(self, share: Sequence[float], radius_mm: float) -> str:
        """One of ``PLACES``: of what is reported at ``share`` of the scan's extent along each axis."""
        shape = self.aerated.shape
        at = tuple(min(int(s * n), n - 1) for s, n in zip(share, shape, strict=True))
        free = max(1, int(np.ceil(radius_mm / GRID_MM)))
        rows = np.flatnonzero(self.aerated[max(0, at[0] - 1) : at[0] + 2].any((0, 2)))
        depth = (at[1] - rows[0]) / max(1, rows[-1] - rows[0]) if rows.size else 0.5
        front = depth < FRONT
        edge = self.outside_mm[at] <= radius_mm + NEAR_WALL_MM
        if edge and self.bone_mm[at] <= radius_mm + (CARTILAGE_MM if front else NEAR_BONE_MM):
            return "costochondral joint" if front else "rib"
        side = 1 if at[2] > self.midline else -1
        if not self._lung_towards(at, 0, -1, free) and self._lung_towards(at, 0, 1, free):
            return "diaphragm"
        lateral = self._lung_towards(at, 2, side, free) > 0
        medial = self._lung_towards(at, 2, -side, free) >= MEDIAL_SHARE
        deep = HILUM_DEPTH[0] <= depth <= HILUM_DEPTH[1]
        if lateral and not medial and (deep or edge):
            levels = np.flatnonzero(self.aerated.any((1, 2)))
            height = (at[0] - levels[0]) / max(1, levels[-1] - levels[0])
            far = abs(at[2] - self.midline) * GRID_MM >= HILUM_MM
            hilar = deep and far and HILUM[0] <= height <= HILUM[1]
            return "hilum or vessel at it" if hilar else "mediastinum"
        if edge:
            return "wall" if lateral or medial else "mediastinum"
        return "within the lung"

    def _lung_towards(self, at: tuple[int, ...], axis: int, step: int, free: int) -> float:
        """Share of lung up to ``REACH_MM`` from the surface in a direction; never past the midline."""
        index: list[int | slice] = list(at)
        index[axis] = slice(None)
        line = self.aerated[tuple(index)]
        cells = at[axis] + step * np.arange(free, free + round(REACH_MM / GRID_MM))
        cells = cells[(cells >= 0) & (cells < len(line))]
        if axis == 2:
            own = cells > self.midline if at[2] > self.midline else cells <= self.midline
            cells = cells[own]
        return float(line[cells].mean()) if len(cells) else 0.0
