"""The largest connected part of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest part of ``mask`` whose voxels touch by a corner at least (26 neighbours)."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return mask
    return np.asarray(labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1)
