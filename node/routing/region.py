"""Body region of a series, so that only series of the same region compete for one analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from node.studies.pydicom_errors import UNREADABLE

SHARED = 0.5
"""Two series show the same region when each covers at least this part of the other."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Extent of a series along the patient's z axis (LPS, towards the head)."""

    frame: str
    """Frame of Reference UID; empty when the images state none, or not the same one."""
    low: float
    """In mm."""
    high: float


def region_of(headers: Sequence[Dataset]) -> Region | None:
    """The region of all images with a position (PS3.3 C.7.6.2); ``None`` when no header states one."""
    heights: list[float] = []
    for header in headers:
        heights += _heights(header)
    if not heights:
        return None
    frames = {str(header.get("FrameOfReferenceUID") or "") for header in headers}
    return Region(frame=frames.pop() if len(frames) == 1 else "", low=min(heights), high=max(heights))


def same_region(one: Region | None, other: Region | None) -> bool:
    """Whether two series may be reconstructions of one scan; an unknown region may be any."""
    if one is None or other is None:
        return True
    if one.frame and other.frame and one.frame != other.frame:
        return False
    shared = min(one.high, other.high) - max(one.low, other.low)
    return shared >= 0 and shared >= SHARED * max(one.high - one.low, other.high - other.low)


def _heights(header: Dataset) -> list[float]:
    """Return the z coordinates of the corners of an image."""
    try:
        position = np.asarray(header.ImagePositionPatient, float)
        cosines = np.asarray(header.ImageOrientationPatient, float).reshape(2, 3)
        down, across = (float(value) for value in header.PixelSpacing)
        edges = cosines * np.array([[across * int(header.Columns)], [down * int(header.Rows)]])
        heights = position[2] + np.array([0.0, edges[0, 2], edges[1, 2], edges[0, 2] + edges[1, 2]])
    except UNREADABLE:
        return []
    return [float(height) for height in heights] if np.isfinite(heights).all() else []
