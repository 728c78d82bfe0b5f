"""Branching vessel trees that fill a lung."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from node.demo.shapes import Array, Point, capsule, cover

Branch = tuple[Point, Point, float]
"""Start and end in LPS mm, radius in mm."""

HILA = ((-38.0, 16.0, 24.0), (40.0, 20.0, 22.0))
"""Where the vessels enter the right and the left lung."""
ENDS = 900
"""Terminal vessels of one lung."""
PIECE_MM = 7.0
THINNEST_MM = 0.35


def grow(
    rng: np.random.Generator, inside: npt.NDArray[np.bool_], grid: tuple[Array, Array, Array]
) -> list[list[Branch]]:
    """One tree for each lung. ``inside``: ``[slice, row, column]`` at the LPS positions ``grid`` (z, y, x)."""
    places = np.argwhere(inside[::2, ::6, ::6]) * (2, 6, 6)
    points = np.stack([axis[i] for axis, i in zip(grid, places.T, strict=True)], 1)[:, ::-1]
    trees = []
    for hilum in HILA:
        side = points[np.sign(points[:, 0]) == np.sign(hilum[0])]
        ends = side[rng.permutation(len(side))[:ENDS]] + rng.uniform(-2, 2, (min(ENDS, len(side)), 3))
        trees.append(_tree(rng, np.array(hilum), ends))
    return trees


def _tree(rng: np.random.Generator, root: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]) -> list[Branch]:
    """Join each end to the tree where the way to the root stays short; radii by Murray's law (PNAS 12, 1926)."""
    room = len(ends) * 40 + 1
    nodes, parents, path = np.empty((room, 3)), np.full(room, -1), np.zeros(room)
    nodes[0], count = root, 1
    leaves = []
    for end in ends[np.argsort(np.linalg.norm(ends - root, axis=1))]:
        away = np.linalg.norm(nodes[:count] - end, axis=1)
        parent = int(np.argmin(away + 0.45 * path[:count]))
        pieces = max(1, int(away[parent] / PIECE_MM))
        start = nodes[parent].copy()
        for k in range(1, pieces + 1):
            # Vessels bend a little between their forks.
            jitter = rng.normal(0, 0.4, 3) if k < pieces else 0.0
            nodes[count] = start + (end - start) * k / pieces + jitter
            parents[count] = parent
            path[count] = path[parent] + np.linalg.norm(nodes[count] - nodes[parent])
            parent, count = count, count + 1
        leaves.append(parent)
    flow = np.zeros(count)
    flow[leaves] = 1
    for node in range(count - 1, 0, -1):
        flow[parents[node]] += flow[node]
    radius = THINNEST_MM * np.cbrt(flow)
    points: list[Point] = [(float(x), float(y), float(z)) for x, y, z in nodes[:count]]
    return [(points[parents[n]], points[n], float(radius[n])) for n in range(1, count)]


def draw(hu: Array, lungs: Array, grid: tuple[Array, Array, Array], branches: Sequence[Branch], blood: float) -> None:
    """Draw vessels into the lungs: what is thinner than a slice fills only part of it."""
    zs, ys, xs = grid
    step = float(zs[1] - zs[0])
    for start, end, radius in branches:
        margin = radius + 1.5
        low, high = np.min((start, end), 0) - margin, np.max((start, end), 0) + margin
        box = (
            slice(*np.searchsorted(zs, [low[2] - step, high[2] + step])),
            slice(*np.searchsorted(ys, [low[1], high[1]])),
            slice(*np.searchsorted(xs, [low[0], high[0]])),
        )
        z, y, x = zs[box[0]], ys[box[1]][:, None], xs[box[2]]
        rise = abs(end[2] - start[2]) / math.dist(start, end)
        # A slice sees whatever lies within its thickness.
        nearest = np.clip(z, min(start[2], end[2]), max(start[2], end[2]))
        level = (z + np.clip(nearest - z, -step / 2, step / 2))[:, None, None]
        inside = cover(capsule(x, y, level, (start, end), (radius, radius)), 0.9)
        inside *= rise + (1 - rise) * min(1.0, 2 * radius / step)
        here = hu[box]
        np.maximum(here, here + (blood - here) * inside * lungs[box], out=here)
