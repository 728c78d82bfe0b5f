"""Coverage of the brain: area of brain on the lowest and highest images, and on the edges of all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.pipeline import marked
from pipelines.cut_off import cut_off
from pipelines.tumor.grid import PIXEL_MM
from pipelines.tumor.prepare import FOREGROUND

LIMIT_CM2 = 50.0
"""More brain than this on an outermost slice, or on the edges of all: it is cut off there. See MODEL_CARD.md for how
often that is wrong."""
CUT_OFF_LOWER = marked("The brain is cut off at the lower end: the lowest image still shows {area} cm2.")
CUT_OFF_UPPER = marked("The brain is cut off at the upper end: the highest image still shows {area} cm2.")
CUT_OFF_SIDES = marked("The field of view cuts the brain: {area} cm2 of it lie on the edges of the images.")
SCALP_AND_SKULL_MM = 12.0
BRAIN = (0.5, 2.0)
"""Intensities of brain, where the median of the inner head is 1."""
_SMOOTH = 4
"""Pixels by which gaps in the skin are closed, and what is narrower is no brain: muscles and nerves of the neck."""


def why_cut_off(normalised: NDArray[np.float32], slice_mm: float) -> str:
    """``Findings.cut_off`` of a stack ``[slice, row, column]`` from foot to head, as the network sees it.

    ``slice_mm``: distance of its slices.
    """
    edges = (normalised[:, 0], normalised[:, -1], normalised[:, :, 0], normalised[:, :, -1])
    sides_cm2 = sum(brain_cm2(ndimage.zoom(edge, (slice_mm / PIXEL_MM, 1), order=1)) for edge in edges)
    areas = (brain_cm2(normalised[0]), brain_cm2(normalised[-1]), sides_cm2)
    return cut_off(LIMIT_CM2, zip((CUT_OFF_LOWER, CUT_OFF_UPPER, CUT_OFF_SIDES), areas, strict=True))


def brain_cm2(plane: NDArray[np.float32]) -> float:
    """Area of the largest region that lies within the skull and is as bright as brain.

    ``plane``: an axial slice, or a face of the stack; pixels of ``PIXEL_MM``.
    """
    room = _SMOOTH + 2
    head = np.pad(plane > 2 * FOREGROUND, room)
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(head, iterations=_SMOOTH))
    depth = ndimage.distance_transform_edt(filled)[room:-room, room:-room] * PIXEL_MM
    alike = (depth > SCALP_AND_SKULL_MM) & (plane > BRAIN[0]) & (plane < BRAIN[1])
    labels, _ = ndimage.label(ndimage.binary_opening(alike, iterations=_SMOOTH))
    return float(np.bincount(labels.ravel())[1:].max(initial=0)) * PIXEL_MM**2 / 100
