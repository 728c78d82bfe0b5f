"""Crops for the two 2D networks: square parts of slices, scaled like the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows

Array = npt.NDArray[np.float32]

CROP = 128
"""Pixels of a stretched crop (LIDC patches), about 90 mm."""
PIXEL_MM = 0.7
NEIGHBOUR_MM = 2.0
"""Distance of the slices below and above: the next slice, or as many thin ones as come nearest to this."""

NEAR_MM = 5.0
"""Distance at which ``nearness`` is a half."""


def gap(slice_mm: float) -> int:
    """Slices from one plane to its neighbour; ``slice_mm`` 0: unknown, taken for thin ones."""
    return max(1, round(NEIGHBOUR_MM / slice_mm)) if slice_mm else 2


def stretched(crops: npt.NDArray[np.floating]) -> Array:
    """Each plane of ``[..., row, column]`` from its own minimum (0) to its maximum (1), as the training data are."""
    low = crops.min((-2, -1), keepdims=True)
    span = np.maximum(crops.max((-2, -1), keepdims=True) - low, 1.0)
    return ((crops - low) / span).astype(np.float32)


def nearness(away_mm: npt.NDArray[np.floating]) -> Array:
    """What tells the outline network which thing is meant: 1 at the candidate's centre, less and less around it."""
    return (NEAR_MM / (NEAR_MM + away_mm)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A crop in the pixels of the scan; it may reach beyond the image, which is repeated there."""

    corner: tuple[int, int]
    """Row and column."""
    size: tuple[int, int]

    @classmethod
    def round(cls, row: float, column: float, spacing: Sequence[float]) -> Window:
        """``CROP`` pixels of ``PIXEL_MM`` with ``row``, ``column`` in the middle; ``spacing`` slice, row, column."""
        size = (round(CROP * PIXEL_MM / spacing[1]), round(CROP * PIXEL_MM / spacing[2]))
        return cls(corner=(round(row - size[0] / 2), round(column - size[1] / 2)), size=size)

    def cut(self, hu: npt.NDArray[np.float32], slices: npt.NDArray[np.int64]) -> torch.Tensor:
        """``[n, CROP, CROP]``, 0 to 1: ``slices`` of ``hu`` (``[slice, row, column]``), repeated beyond its ends."""
        wanted = (slices, *(np.arange(c, c + n) for c, n in zip(self.corner, self.size, strict=True)))
        native = hu[np.ix_(*(np.clip(w, 0, n - 1) for w, n in zip(wanted, hu.shape, strict=True)))]
        planes = F.interpolate(
            torch.from_numpy(native)[:, None], size=(CROP, CROP), mode="bilinear", align_corners=False
        )
        return torch.from_numpy(stretched(planes[:, 0].numpy()))

    def distance_mm(
        self, slices: npt.NDArray[np.int64], centre: Sequence[float], spacing: Sequence[float]
    ) -> npt.NDArray[np.float64]:
        """``[n, CROP, CROP]``: from ``centre`` (slice, row, column) to each pixel that ``cut`` gives."""
        rows, columns = (
            (c + (np.arange(CROP) + 0.5) * n / CROP - 0.5 - at) * mm
            for c, n, at, mm in zip(self.corner, self.size, centre[1:], spacing[1:], strict=True)
        )
        along = (slices - centre[0]) * spacing[0]
        return np.sqrt(along[:, None, None] ** 2 + rows[:, None] ** 2 + columns**2)
