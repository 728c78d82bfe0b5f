"""Soft shapes that both phantoms are built of. All lengths in mm; signed distances are positive inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.floating[Any]]
Point = tuple[float, float, float]
Rod = tuple[Point, Point]


def cover(distance: Array, width: float = 1.0) -> Array:
    """How much of a voxel is inside (0 to 1), for a boundary blurred over ``width``."""
    return np.clip(0.5 + distance / width, 0, 1)


def blend(image: Array, value: Array | float, inside: Array) -> None:
    """Put ``value`` where ``inside`` is 1, mix it in proportion elsewhere, in place."""
    image += (value - image) * inside


def ellipse(x: Array, y: Array, centre: tuple[float, float], axes: tuple[float, float]) -> Array:
    """Signed distance to an ellipse: exact on the boundary, first order beside it."""
    u, v = (x - centre[0]) / axes[0], (y - centre[1]) / axes[1]
    r = np.sqrt(u * u + v * v) + np.float32(1e-4)
    slope = np.sqrt((u / axes[0]) ** 2 + (v / axes[1]) ** 2) / r + np.float32(1e-4)
    return (1 - r) / slope


def ellipsoid(x: Array, y: Array, z: Array | float, centre: Point, axes: Point) -> Array:
    """Signed distance to an ellipsoid, first order."""
    u, v, w = (x - centre[0]) / axes[0], (y - centre[1]) / axes[1], (z - centre[2]) / axes[2]
    r = np.sqrt(u * u + v * v + w * w) + np.float32(1e-4)
    slope = np.sqrt((u / axes[0]) ** 2 + (v / axes[1]) ** 2 + (w / axes[2]) ** 2) / r + np.float32(1e-4)
    return (1 - r) / slope


def capsule(x: Array, y: Array, z: Array | float, rod: Rod, radii: tuple[float, float]) -> Array:
    """Signed distance to a rod with round ends whose radius changes evenly from its first end to the other."""
    start, end = rod
    direction = np.subtract(end, start).astype(np.float32)
    dx, dy, dz = x - start[0], y - start[1], z - start[2]
    along = np.clip((dx * direction[0] + dy * direction[1] + dz * direction[2]) / float(direction @ direction), 0, 1)
    away = np.sqrt(
        (dx - along * direction[0]) ** 2 + (dy - along * direction[1]) ** 2 + (dz - along * direction[2]) ** 2
    )
    return radii[0] + along * (radii[1] - radii[0]) - away


def mottle(rng: np.random.Generator, shape: tuple[int, ...], grain: Sequence[float]) -> Array:
    """Smooth Gaussian noise of mean 0 and standard deviation 1; ``grain``: its size along each axis in voxels."""
    # White noise on a grid of about the grain's size, then cubic interpolation: fast, and as smooth as a filter.
    coarse = [int(n / g) + 5 for n, g in zip(shape, grain, strict=True)]
    white = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), 0.5)
    for axis, (n, g) in enumerate(zip(shape, grain, strict=True)):
        places = np.arange(n, dtype=np.float32) / np.float32(g) + 2
        nodes = np.floor(places).astype(int)
        t = (places - nodes).astype(np.float32)
        # Uniform cubic B-spline weights of the four neighbours.
        weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3)
        lined = (slice(None),) + (None,) * (white.ndim - axis - 1)
        white = sum((w / 6)[lined] * np.take(white, nodes + k - 1, axis) for k, w in enumerate(weights))
    return (white - white.mean()) / white.std()
