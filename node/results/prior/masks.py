"""Masks of a prior analysis, read from this node's Segmentation."""

from __future__ import annotations

import sqlite3  # highdicom keeps its tables of frames in it
from pathlib import Path

import numpy as np
from highdicom import Volume
from highdicom.seg import segread
from numpy.typing import NDArray

from node.errors import InputError
from node.studies.bounded_file import BoundedFile
from node.studies.pydicom_errors import NOT_DICOM, UNDECODABLE


def prior_masks(path: Path) -> dict[str, Volume]:
    """Tracking UID -> mask (uint8, 1 inside), cropped to what is inside; LPS mm of the earlier study.

    Raises ``InputError`` when the file is no Segmentation on a grid.
    """
    masks: dict[str, Volume] = {}
    try:
        with BoundedFile(path) as file:
            segmentation = segread(file)
        for number in segmentation.segment_numbers:
            uid = segmentation.get_segment_description(number).tracking_uid
            if uid is not None:
                mask = segmentation.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
                masks[str(uid)] = _cropped(mask)
    except (*NOT_DICOM, *UNDECODABLE, sqlite3.Error) as error:
        raise InputError(f"{path.name}: the masks cannot be read ({error}); nothing is compared with them") from error
    return masks


def _cropped(mask: Volume) -> Volume:
    inside = np.argwhere(mask.array != 0)
    if not len(inside):
        return mask
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    part = mask.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    affine = np.array(mask.affine, float)
    affine[:3, 3] += affine[:3, :3] @ low
    return Volume(part, affine, mask.coordinate_system, frame_of_reference_uid=mask.frame_of_reference_uid)


def middle_mm(mask: Volume) -> NDArray[np.float64]:
    """Of the box round a mask on the slice of its greatest area, as the report outlines it; LPS mm."""
    inside = mask.array != 0
    areas = inside.sum(axis=(1, 2))
    section = np.argwhere(inside[int(areas.argmax())])
    voxel = np.array([float(areas.argmax()), *((section.min(axis=0) + section.max(axis=0)) / 2.0)])
    return np.asarray((np.asarray(mask.affine, float) @ (*voxel, 1.0))[:3])
