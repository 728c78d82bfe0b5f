"""Position of missing images relative to the received ones, in words for a radiologist."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from node.studies.grid import POSITION_TOLERANCE_MM, slice_normal
from node.studies.pydicom_errors import UNREADABLE

_SIDES = (("right", "left"), ("front", "back"), ("lower", "upper"))
"""Towards less and greater values of each axis of LPS (PS3.3 C.7.6.2.1.1)."""


def unseen(headers: Sequence[Dataset], positions: Sequence[tuple[float, float, float] | None]) -> str:
    """What lies beyond the received images: "the lower 193 mm were not analysed"; empty when it is not known.

    ``headers``: of the received images; ``positions``: Image Position (Patient) of the others, LPS mm. Nothing is said
    unless the position of each is known and all of them lie beyond the first or the last of the received images.
    """
    if not positions or not headers or any(position is None for position in positions):
        return ""
    try:
        normal = slice_normal(headers[0])
        here = np.array([[float(value) for value in header.ImagePositionPatient] for header in headers]) @ normal
    except UNREADABLE:
        return ""
    axis = int(np.abs(normal).argmax())
    if not np.isfinite(here).all() or abs(normal[axis]) <= np.sqrt(0.5):
        return ""
    if normal[axis] < 0:
        normal, here = -normal, -here
    there = np.array(positions, float) @ normal
    below, above = there[there < here.min()], there[there > here.max()]
    if len(below) + len(above) < len(there):
        return ""
    lengths = (here.min() - below.min() if len(below) else 0.0, above.max() - here.max() if len(above) else 0.0)
    parts = [
        f"the {side} {length:.0f} mm"
        for side, length in zip(_SIDES[axis], lengths, strict=True)
        if length > POSITION_TOLERANCE_MM
    ]
    return f"{' and '.join(parts)} were not analysed" if parts else ""
