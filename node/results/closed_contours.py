"""Closed contours of a mask on one image, as RT structure sets hold them (PS3.3 C.8.8.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from node.results.source_grid import Voxels

Points = NDArray[np.float64]
"""``(n, 2)``: column and row, in pixels; (0, 0) is the centre of the first one. The last point joins the first."""
_FAR_TOO_MANY = 8
"""Times the points of a contour that are not worth joining: leaving out what lies on lines saves less."""


def closed_contours(plane: Voxels, most_points: int) -> Iterator[Points]:
    """Yield contours that together enclose exactly the centres of the pixels of ``plane`` (row, column).

    They run half-way between the centres of inner and outer pixels (marching squares at one half). A hole is joined to
    its surroundings by a channel without width, the keyhole of PS3.3 C.8.8.6.3. A plane with a contour of more than
    ``most_points`` is cut in two between two rows or columns.
    """
    padded = np.pad(plane.astype(np.float64), 1)
    generator = contour_generator(z=padded, fill_type=FillType.OuterOffset)
    contours = []
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        if offsets[-1] > _FAR_TOO_MANY * most_points:
            break
        rings = [np.asarray(points[a : b - 1]) - 1.0 for a, b in pairwise(offsets.tolist())]
        contours.append(_corners(_with_keyholes(rings[0], rings[1:])))
        if len(contours[-1]) > most_points:
            break
    else:
        yield from contours
        return
    axis = int(plane.shape[1] > plane.shape[0])
    middle = plane.shape[axis] // 2
    first, second = np.split(plane, [middle], axis=axis)
    yield from closed_contours(first, most_points)
    yield from (
        contour + np.array([middle * axis, middle * (1 - axis)]) for contour in closed_contours(second, most_points)
    )


def _with_keyholes(outer: Points, holes: Sequence[Points]) -> Points:
    """Join each hole, from the left to the right, to the next point to the left of its leftmost one.

    That point is on the same row: every contour has a point where it crosses a row of pixel centres.
    """
    contour = outer
    for hole in sorted(holes, key=lambda ring: float(ring[:, 0].min())):
        start = int(hole[:, 0].argmin())
        column, row = hole[start]
        left = np.flatnonzero((contour[:, 1] == row) & (contour[:, 0] < column))
        at = int(left[contour[left, 0].argmax()])
        around = np.roll(hole, -start, axis=0)
        contour = np.concatenate([contour[: at + 1], around, around[:1], contour[at:]])
    return contour


def _corners(contour: Points) -> Points:
    """Leave out points on a straight line between their neighbours; where the line turns back they stay."""
    before, after = contour - np.roll(contour, 1, axis=0), np.roll(contour, -1, axis=0) - contour
    straight = before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]
    onward = (before * after).sum(axis=1) > 0
    return contour[~(straight & onward)]
