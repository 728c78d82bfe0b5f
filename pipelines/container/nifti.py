"""NIfTI files: images for a model that runs elsewhere, and the label map that it returns."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from node.errors import PipelineError
from node.pipeline import Volume
from node.pipeline.label_map import box_of, label_array

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between LPS of DICOM and RAS of NIfTI."""
_AXES = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
"""Between ``[slice, row, column]`` and NIfTI's usual ``[column, row, slice]``."""
_CLOSE = 0.01
"""Of a voxel: two positions that are nearer are the same."""
_FINER = 32
"""A label map may have so many voxels for each of the images."""


def write_image(path: Path, volume: Volume) -> None:
    """Write ``volume`` with its exact position; the axes of the file are column, row and slice."""
    image = nib.Nifti1Image(np.asarray(volume.array, np.float32).transpose(2, 1, 0), _FLIP @ volume.affine @ _AXES)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def read_labels(path: Path, images: Volume, *, any_grid: bool) -> Volume:
    """The label map of a file, whole numbers, in the frame of reference of ``images``.

    Raises ``PipelineError`` when it cannot be read, or does not lie on the voxels of ``images``; with ``any_grid`` when
    something outlined lies outside of them.
    """
    try:
        image: Any = nib.load(path)
        shape = tuple(image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or prod(shape) > _FINER * images.array.size + (1 << 24):
            raise ValueError(f"it has {' x '.join(map(str, image.shape))} values")  # noqa: TRY301
        array = np.asanyarray(image.dataobj).reshape(shape).transpose(2, 1, 0)
        if array.dtype.kind not in "buif" or (array.dtype.kind == "f" and not np.array_equal(array, np.rint(array))):
            raise ValueError(f"it holds {array.dtype} that are no whole numbers")  # noqa: TRY301
        affine = _FLIP @ image.affine @ _AXES
        labels = Volume(
            label_array(array),
            affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=images.frame_of_reference_uid,
        )
    except Exception as error:  # the reader meets whatever a stranger wrote
        raise PipelineError(f"{path.name} cannot be read as a label map: {error}") from error
    if fault := misplaced(labels, images, any_grid=any_grid):
        raise PipelineError(f"{path.name} {fault}")
    return labels


def misplaced(labels: Volume, images: Volume, *, any_grid: bool) -> str:
    """Why ``labels`` cannot be about ``images``; empty: they can."""
    if labels.frame_of_reference_uid != images.frame_of_reference_uid:
        return "lies in another frame of reference than the images"
    across = np.linalg.inv(images.affine) @ labels.affine
    if not any_grid:
        turn = np.rint(across[:3, :3])
        straight = np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1]) and np.array_equal(
            np.abs(turn).sum(axis=1), [1] * 3
        )
        corners = across @ np.array([[0, 0, 0, 1], [*(n - 1 for n in labels.array.shape), 1]]).T
        first, last = np.sort(corners[:3], axis=1).T
        size = np.array(images.array.shape) - 1
        if not straight or np.abs(first).max() > _CLOSE or np.abs(last - size).max() > _CLOSE:
            return (
                f"lies on {_grid(labels)}, not on the voxels of the images, {_grid(images)}; correct its affine, or "
                'set grid = "any" if it is meant to be another grid of the same patient'
            )
        return ""
    box = box_of(labels.array)
    if box is None:
        return ""
    ends = np.array([[box[axis].start, box[axis].stop - 1] for axis in range(3)])
    corners = np.array([[a, b, c, 1] for a in ends[0] for b in ends[1] for c in ends[2]])
    inside = (across @ corners.T)[:3].T
    if (inside < -1).any() or (inside > np.array(images.array.shape)).any():
        return "outlines something outside of the images"
    return ""


def _grid(volume: Volume) -> str:
    size = " x ".join(map(str, volume.array.shape))
    place = ", ".join(f"{mm:.1f}" for mm in volume.affine[:3, 3])
    return f"{size} voxels from ({place}) mm"
