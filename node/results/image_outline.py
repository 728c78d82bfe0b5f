"""The outline of a mask on one image."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from node.results.closed_contours import closed_contours

_MOST_POINTS = 100_000


def outline_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Points (column, row) around the largest part of ``mask`` ``[row, column]``, as ``Shape`` has them.

    Holes are filled: one line cannot say them. (0, 0) is the corner of the first pixel; the last point joins the first.
    """
    parts, _ = scipy.ndimage.label(mask, np.ones((3, 3)))
    number = int(np.bincount(parts.ravel())[1:].argmax()) + 1
    rows, columns = scipy.ndimage.find_objects(parts)[number - 1]
    largest = np.asarray(scipy.ndimage.binary_fill_holes(parts[rows, columns] == number), np.bool_)
    contour = next(iter(closed_contours(largest, _MOST_POINTS)))
    return contour + np.array([columns.start, rows.start]) + 0.5
