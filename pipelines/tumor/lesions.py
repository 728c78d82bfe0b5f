"""Lesions from probabilities: connected regions, minimum size, side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MERGE_MM = 10.0
"""Parts closer than this are one lesion: a glioma shows in FLAIR as one region with bridges below the threshold."""
MIDLINE_MM = 5.0
"""A centroid nearer to the midline than this has no side."""


def lesion_regions(
    probability: NDArray[np.float32],
    voxel_mm: tuple[float, float, float],
    *,
    threshold: float,
    min_volume_ml: float,
    min_probability: float,
    large_volume_ml: float,
) -> NDArray[np.int32]:
    """Zones around lesions, numbered 1, 2, ... from the largest lesion to the smallest; 0 elsewhere.

    Voxels above ``threshold`` whose gap is less than ``MERGE_MM`` share a zone, which reaches ``MERGE_MM / 2`` beyond
    them. A zone is left out when its voxels above the threshold make less than ``min_volume_ml``, or less than
    ``large_volume_ml`` with a mean probability below ``min_probability``.
    """
    above = probability > threshold
    zones = np.zeros(above.shape, np.int32)
    if not above.any():
        return zones
    reach = [int(MERGE_MM / 2 / mm) + 1 for mm in voxel_mm]
    box = ndimage.find_objects(above.astype(np.int8))[0]
    part = tuple(slice(max(0, s.start - r), s.stop + r) for s, r in zip(box, reach, strict=True))
    above, probability, near_zones = above[part], probability[part], zones[part]
    near = ndimage.distance_transform_edt(~above, sampling=voxel_mm) < MERGE_MM / 2
    labels, count = ndimage.label(near | above, np.ones((3, 3, 3), bool))
    voxels = np.bincount(labels[above], minlength=count + 1)
    means = np.bincount(labels[above], probability[above], count + 1) / np.maximum(voxels, 1)
    volumes_ml = voxels * float(np.prod(voxel_mm)) / 1000
    fit = (voxels > 0) & (volumes_ml >= min_volume_ml) & ((means >= min_probability) | (volumes_ml >= large_volume_ml))
    for number, label in enumerate((k for k in np.argsort(-voxels, kind="stable") if fit[k]), start=1):
        near_zones[labels == label] = number
    return zones


def side_of(lesion: NDArray[np.bool_], head: NDArray[np.bool_], column_mm: float) -> str | None:
    """``"left"`` or ``"right"`` of the patient, ``None`` at the midline; columns grow to the left (HPL).

    The midline is the median over slices of the middle between the head's outermost columns; LPS x = 0 is only the
    scanner's.
    """
    columns: NDArray[np.bool_] = np.any(head, axis=1)
    columns = columns[np.any(columns, axis=1)]
    if not len(columns):
        return None
    first, last = columns.argmax(axis=1), columns.shape[1] - 1 - columns[:, ::-1].argmax(axis=1)
    offset = (float(np.argwhere(lesion)[:, 2].mean()) - float(np.median((first + last) / 2))) * column_mm
    if abs(offset) < MIDLINE_MM:
        return None
    return "left" if offset > 0 else "right"


def third_of(lesion: NDArray[np.bool_], head: NDArray[np.bool_]) -> str:
    """``"anterior"``, ``"middle"`` or ``"posterior"`` third of the head, by the lesion's centroid.

    Rows grow to the back (HPL). The head's ends are the medians over the slices that hold the lesion: the head is not
    as long near the vertex.
    """
    here = lesion.any(axis=(1, 2))
    rows: NDArray[np.bool_] = np.any(head[here], axis=2)
    rows = rows[np.any(rows, axis=1)]
    if not len(rows):
        rows = np.ones((1, head.shape[1]), bool)
    first = float(np.median(rows.argmax(axis=1)))
    last = float(np.median(rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)))
    share = (float(np.argwhere(lesion)[:, 1].mean()) - first) / max(last - first, 1.0)
    return ("anterior", "middle", "posterior")[int(np.clip(share * 3, 0, 2))]
