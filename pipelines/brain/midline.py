"""The plane between the hemispheres, found by how well the labels agree with their mirror image.

The network does not tell left from right: both sides of a structure have one label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]
_STEP = 4
"""Every fourth voxel of each axis is compared."""
_BOUNDS = ((-0.5, 0.5), (-0.5, 0.5), (-25.0, 25.0))
"""Of two slopes (27 degrees) and of the distance from the middle of the labels, mm."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Points ``p`` with ``normal @ p == offset``, in voxels of the label array; ``normal`` points to the left."""

    normal: Array
    offset: float

    def is_left(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Whether each voxel lies on the patient's left."""
        i, j, k = (np.arange(size, dtype=np.float32) for size in shape)
        a, b, c = (np.float32(value) for value in self.normal)
        return np.asarray(a * i[:, None, None] + b * j[:, None] + c * k > np.float32(self.offset))


def mid_plane(labels: NDArray[np.uint8]) -> Plane:
    """Find the plane of symmetry of ``labels`` (0: background), whose first axis grows to the patient's left.

    The search begins at the middle of all labelled voxels and allows for a tilted head.
    """
    places = np.argwhere(labels[::_STEP, ::_STEP, ::_STEP]) * _STEP
    values = labels[tuple(places.T)]
    centre = places.mean(axis=0)
    limits = np.array(labels.shape) - 1

    def disagreement(parameters: Array) -> float:
        normal = _normal(parameters)
        distance = (places - centre) @ normal - parameters[2]
        mirrored = np.rint(places - 2 * distance[:, None] * normal).astype(int)
        inside = ((mirrored >= 0) & (mirrored <= limits)).all(axis=1)
        return -float((inside & (labels[tuple(np.clip(mirrored, 0, limits).T)] == values)).mean())

    options = {"xtol": 1e-3, "ftol": 1e-5, "maxiter": 40}
    optimum = minimize(disagreement, np.zeros(3), method="Powell", bounds=_BOUNDS, options=options)
    normal = _normal(optimum.x)
    return Plane(normal, float(normal @ centre + optimum.x[2]))


def _normal(parameters: Array) -> Array:
    normal = np.array([1.0, parameters[0], parameters[1]])
    return normal / np.linalg.norm(normal)
