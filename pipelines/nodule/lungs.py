"""Lung segmentation on a 3 mm grid in half a second, which bounds the search and tells the sides apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage

from pipelines.nodule.masses import GAS_HU, Region, dense_regions
from pipelines.nodule.sides import GRID_MM, middle_of, not_assessed

AIR_HU = -400.0
BODY_HU = -300.0
SMALLEST_LUNG_ML = 150.0
"""Less aerated volume than this is bowel gas, a trachea or the recess of a lung, not lungs."""
LUNG_QUARTILE_HU = -900.0
"""Air at the border of a slice whose lower quartile is denser is lung that the field of view cuts: -891 to -651 in
crops of two real series. Air round a patient has -909 at most, also between arms, blankets and table."""
LIMIT_CM2 = 10.0
"""More lung than this on an outermost slice, or on all edges of the slices: it is cut off there; an apex or a recess is
smaller (MODEL_CARD.md)."""
VALLEY = 0.5
"""Two lungs have less than this share of their air on the column between them: 0.08 to 0.29 in real series, 1 in one
lung alone."""
LEAST_OF_OTHER = 0.25
"""With less of the other lung's volume a side has hardly any lung, and the other one may reach across the midline."""
WHOLE_BODY_MM = 250.0
"""A narrower body is cut off at a side, or a child's: its middle says nothing."""
PLEURA_MM = 12.0
"""Closing radius: takes vessels, the hila and nodules on the wall into the mask."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lungs:
    """Where the lungs are."""

    mask: npt.NDArray[np.bool_]
    """``[slice, row, column]`` on ``GRID_MM``, closed: vessels and nodules on the wall are inside."""
    midline: float
    """Column of ``mask`` between right and left lung."""
    parted: Literal["valley", "body", "no"] = "valley"
    """What is at ``midline``: the valley between both lungs; where only one holds air, the middle of the body; nothing
    that parts them, where the body is too narrow to be shown as a whole."""
    lowest_cm2: float = 0.0
    """Aerated lung on the lowest slice."""
    highest_cm2: float = 0.0
    """The same on the highest one."""
    sides_cm2: float = 0.0
    """The same on all other faces of the volume together: what the field of view cuts."""
    not_assessed: str = ""
    """See ``sides.not_assessed``."""
    dense: tuple[Region, ...] = ()
    """See ``masses.dense_regions``."""

    @property
    def whole(self) -> bool:
        """Whether the images show the lungs to both ends and all sides."""
        return max(self.lowest_cm2, self.highest_cm2) <= LIMIT_CM2 and not self.cut_at_sides

    @property
    def cut_at_sides(self) -> bool:
        """Whether the field of view cuts the lungs."""
        return self.sides_cm2 > LIMIT_CM2

    def side(self, column: float) -> str:
        """``"left"`` or ``"right"``, whose lung is at a column of ``mask``; empty when it cannot be told."""
        middle = round(self.midline)
        right, left = int(self.mask[:, :, :middle].sum()), int(self.mask[:, :, middle:].sum())
        side, own, other = ("left", left, right) if column > self.midline else ("right", right, left)
        share = {"valley": own / max(other, 1) >= LEAST_OF_OTHER, "body": other / max(own, 1) <= LEAST_OF_OTHER}
        return side if share.get(self.parted, False) else ""


def to_grid(hu: npt.NDArray[np.float32], spacing: tuple[float, float, float], grid_mm: float) -> torch.Tensor:
    """Trilinear resampling of ``[slice, row, column]`` with ``spacing`` mm to cubes of ``grid_mm``.

    The outer faces of first and last voxel keep their place (``align_corners=False``).
    """
    size = [max(1, round(n * s / grid_mm)) for n, s in zip(hu.shape, spacing, strict=True)]
    source = torch.from_numpy(np.ascontiguousarray(hu))[None, None]
    return F.interpolate(source, size=size, mode="trilinear", align_corners=False)[0, 0]


def find_lungs(hu: npt.NDArray[np.float32], spacing: tuple[float, float, float]) -> Lungs | None:
    """Lungs of an axial volume ``[slice F->H, row A->P, column R->L]`` in HU; ``None``: none can be delimited."""
    small = to_grid(hu, spacing, GRID_MM).numpy()
    air = small < AIR_HU
    rim = np.zeros(air.shape[1:], bool)
    rim[[0, -1]] = rim[:, [0, -1]] = True
    outside = _outside(air, small, rim)
    inside = ndimage.binary_opening(air & ~outside, iterations=1)
    labels, count = ndimage.label(inside)
    volume_ml = np.bincount(labels.ravel(), minlength=count + 1)[1:] * GRID_MM**3 / 1000.0
    large = 1 + np.flatnonzero(volume_ml >= max(30.0, 0.08 * volume_ml.max(initial=0.0)))
    lungs_mask = np.isin(labels, large)
    if lungs_mask.sum() * GRID_MM**3 / 1000.0 < SMALLEST_LUNG_ML:
        return None
    sides_cm2 = np.count_nonzero(lungs_mask & rim) * GRID_MM**2 / 100
    closed = ndimage.binary_dilation(closed_by(lungs_mask, round(PLEURA_MM / GRID_MM)), iterations=1)
    body = small > BODY_HU
    valley = _valley(lungs_mask)
    whole_body = np.count_nonzero(body.any((0, 1))) * GRID_MM >= WHOLE_BODY_MM and sides_cm2 <= LIMIT_CM2
    midline = float(middle_of(body)) if valley is None else valley
    lungs = Lungs(
        mask=closed,
        midline=midline,
        parted="valley" if valley is not None else "body" if whole_body else "no",
        lowest_cm2=_lung_cm2(lungs_mask[0], small[0]),
        highest_cm2=_lung_cm2(lungs_mask[-1], small[-1]),
        sides_cm2=sides_cm2,
    )
    if lungs.cut_at_sides and valley is None:
        return lungs  # its middle is that of the images, not of the body
    return replace(
        lungs,
        not_assessed="" if lungs.cut_at_sides else not_assessed(lungs_mask, body),
        dense=tuple(dense_regions(lungs_mask, small, midline)),
    )


def _outside(
    air: npt.NDArray[np.bool_], hu: npt.NDArray[np.float32], rim: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Air that touches the border of its slice, padding round a circular field of view as well, but no lung."""
    outside = np.zeros_like(air)
    for k, plane in enumerate(air):
        labels, _ = ndimage.label(plane)
        for touching in np.setdiff1d(labels[rim], [0]):
            part = labels == touching
            outside[k] |= part & bool(np.percentile(hu[k][part], 25) <= LUNG_QUARTILE_HU)
    return outside


def closed_by(mask: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    """Closing of ``mask`` with a ball of ``radius`` cells, by distances, which take a third of the time."""
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    wide = np.pad(mask[box], radius + 1)  # the outermost cells stay empty, so that there are distances to them
    grown = ndimage.distance_transform_edt(~wide) <= radius
    shrunk = ndimage.distance_transform_edt(grown) > radius
    closed = np.zeros_like(mask)
    closed[box] = shrunk[(slice(radius + 1, -radius - 1),) * 3]
    return closed


def _lung_cm2(kept: npt.NDArray[np.bool_], hu: npt.NDArray[np.float32]) -> float:
    """Area of the parts of a slice that are lung: the trachea and gas in stomach and bowel are air alone."""
    labels, count = ndimage.label(kept)
    medians = ndimage.median(hu, labels, range(1, count + 1)) if count else []
    lung = 1 + np.flatnonzero(np.asarray(medians) > GAS_HU)
    return float(np.isin(labels, lung).sum()) * GRID_MM**2 / 100


def _valley(lungs: npt.NDArray[np.bool_]) -> float | None:
    """Column that parts the lungs: the emptiest one between the two humps of the profile over the columns.

    ``None`` when there is no such valley: only one lung holds air.
    """
    profile = ndimage.gaussian_filter1d(lungs.sum((0, 1)).astype(float), 2.0)
    columns = np.flatnonzero(profile > 0.05 * profile.max())
    first, last = int(columns[0]), int(columns[-1])
    low, high = first + (last - first) * 3 // 10, first + (last - first) * 7 // 10
    emptiest = low + int(np.argmin(profile[low : high + 1]))
    humps = min(profile[:emptiest].max(initial=0), profile[emptiest:].max())
    return float(emptiest) if profile[emptiest] < VALLEY * humps else None
