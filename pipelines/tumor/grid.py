"""The network's grid: axial slices of about 0.92 mm pixels, thin slices averaged to slabs; and the way back.

Arrays are ``[slice, row, column]`` in orientation HPL, the one the training tiles have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

PIXEL_MM = 0.92
"""The training tiles carry no spacing. Their heads measure 169 x 214 pixels (median of 73 patients), adult heads about
155 x 197 mm (breadth and length over the scalp)."""
SLAB_MM = 3.0
"""Thinner slices are averaged to slabs of about this thickness: most training slices are 4 to 7 mm apart."""


@dataclass(frozen=True)
class NetworkGrid:
    """How one volume is brought to the network and back. Both grids cover the same box, so only sizes matter."""

    shape: tuple[int, int, int]
    """Of the source, ``[slice, row, column]``."""
    spacing: tuple[float, float, float]
    """Of the source, mm, same order."""
    rows: int
    columns: int
    slab: int
    """Source slices averaged into one."""

    @classmethod
    def of(cls, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Self:
        """Choose the grid for a source volume."""
        rows, columns = (max(round(n * mm / PIXEL_MM), 1) for n, mm in zip(shape[1:], spacing[1:], strict=True))
        return cls(shape, spacing, rows, columns, max(round(SLAB_MM / spacing[0]), 1))

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Spacing of the network's grid in mm, slice, row, column."""
        return (
            self.spacing[0] * self.slab,
            self.spacing[1] * self.shape[1] / self.rows,
            self.spacing[2] * self.shape[2] / self.columns,
        )

    def forward(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Source intensities on the network's grid."""
        x = torch.from_numpy(array)[:, None]
        x = interpolate(x, size=(self.rows, self.columns), mode="bilinear", antialias=True, align_corners=False)[:, 0]
        missing = -len(x) % self.slab
        if missing:
            x = torch.cat([x, x[-1:].expand(missing, -1, -1)])
        return x.reshape(-1, self.slab, self.rows, self.columns).mean(dim=1).numpy()

    def back(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values on the network's grid, linearly interpolated on the source grid."""
        size = (len(array) * self.slab, *self.shape[1:])
        x = interpolate(torch.from_numpy(array)[None, None], size=size, mode="trilinear", align_corners=False)
        return x[0, 0, : self.shape[0]].numpy()

    def back_nearest(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Labels on the network's grid, on the source grid."""
        size = (len(labels) * self.slab, *self.shape[1:])
        x = interpolate(torch.from_numpy(labels)[None, None].float(), size=size, mode="nearest-exact")
        return x[0, 0, : self.shape[0]].numpy().astype(np.int32)
