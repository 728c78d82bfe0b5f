"""A CT slice at the scale and size that the network sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 96
"""Rows and columns."""
MM = 4.0
"""Pixel spacing. Smaller ones are averaged: noise and kernel play no part."""
AIR_HU = -1024.0
_MOST_HU = 3000.0
_SPACING_MM = (0.05, 8.0)
"""Beyond these a header is wrong; the averaging would take any time, or leave nothing to see."""


def scaled(values: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray[np.float32]:
    """Return the middle of a slice as ``[SIZE, SIZE]`` at ``MM``, surrounded by air where it is smaller.

    ``values``: HU ``[row, column]``, anterior at the top; ``spacing``: of rows and columns in mm. Raises ``ValueError``
    for a spacing that no scanner has.
    """
    if not all(_SPACING_MM[0] <= mm <= _SPACING_MM[1] for mm in spacing):
        raise ValueError(f"PixelSpacing {spacing[0]:g} x {spacing[1]:g} mm")
    limited = np.clip(np.nan_to_num(values, nan=AIR_HU), AIR_HU, _MOST_HU)
    steps = tuple(max(1, round(MM / mm)) for mm in spacing)
    coarse = _averaged(limited, steps)
    rows, row_weights = _places(coarse.shape[0], spacing[0] * steps[0])
    columns, column_weights = _places(coarse.shape[1], spacing[1] * steps[1])
    padded = np.pad(coarse, 1, constant_values=AIR_HU)
    along = padded[rows] * (1 - row_weights)[:, None] + padded[rows + 1] * row_weights[:, None]
    return np.asarray(
        along[:, columns] * (1 - column_weights) + along[:, columns + 1] * column_weights, dtype=np.float32
    )


def _averaged(values: NDArray[np.float32], steps: tuple[int, ...]) -> NDArray[np.float32]:
    """Average blocks of ``steps`` rows and columns around the middle; a rest at the edges is left out."""
    for axis, step in enumerate(steps):
        number = values.shape[axis] // step
        first = (values.shape[axis] - number * step) // 2
        values = np.take(values, np.arange(first, first + number * step), axis=axis)
    shape = (values.shape[0] // steps[0], steps[0], values.shape[1] // steps[1], steps[1])
    return np.asarray(values.reshape(shape).mean(axis=(1, 3)))


def _places(number: int, mm: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the index before each wanted place, in an array with one more entry at each end, and the distance."""
    wanted = (np.arange(SIZE) - (SIZE - 1) / 2) * (MM / mm) + (number - 1) / 2 + 1
    within = np.clip(wanted, 0, max(number, 0) + 1 - 1e-3)
    before = np.floor(within).astype(np.intp)
    return before, (within - before).astype(np.float32)
