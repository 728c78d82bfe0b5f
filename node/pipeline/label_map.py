"""Label maps: one array of integers whose values are the masks of many segments.

A mask of its own for each of a hundred structures would take a hundred times the memory of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import scipy
from highdicom import Volume
from numpy.typing import NDArray

LARGEST_VALUE = 65535
"""Of a voxel of a label map."""
Box = tuple[slice, slice, slice]


class Outline(Protocol):
    """A mask of its own or in a label map; see ``node.pipeline.Segment``."""

    @property
    def mask(self) -> Volume: ...

    @property
    def value(self) -> int | None: ...


def label_array(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers of any type ``[slice, row, column]`` as uint8, or as uint16 where they need it.

    Raises ``ValueError`` for numbers that are negative or above ``LARGEST_VALUE``.
    """
    labels: NDArray[Any] = np.zeros(values.shape, np.uint8)
    for index, plane in enumerate(values):  # slice by slice, for memory
        whole = plane if plane.dtype.kind in "bui" else np.rint(plane)
        least, greatest = (whole.min(), whole.max()) if whole.size else (0, 0)
        if not 0 <= least <= greatest <= LARGEST_VALUE:
            raise ValueError(f"label map holds values from {least} to {greatest}; use 0 to {LARGEST_VALUE}")
        if greatest > np.iinfo(labels.dtype).max:
            labels = labels.astype(np.uint16)
        labels[index] = whole
    return labels


def values_of(labels: NDArray[Any]) -> list[int]:
    """The values other than 0 that occur in a label map, ascending."""
    occurs = np.zeros(LARGEST_VALUE + 1, np.bool_)
    for plane in labels:
        occurs[plane] = True
    return [int(value) for value in np.flatnonzero(occurs) if value]


def inside(values: NDArray[Any], value: int | None) -> NDArray[np.bool_]:
    """Where ``values``, the voxels of a mask or a part of them, belong to the segment; see ``Segment.value``.

    A mask of zeros and ones is taken as it lies in memory.
    """
    if value is not None:
        return np.asarray(values == value)
    if values.dtype == np.bool_ or (values.dtype == np.uint8 and (not values.size or values.max() <= 1)):
        return values.view(np.bool_)
    return np.asarray(values != 0)


def boxes_of(segments: Sequence[Outline]) -> list[Box | None]:
    """The box of each segment in its mask, ``None`` for an empty one; a label map is read once for all of them."""
    largest: dict[int, int] = {}
    for segment in segments:
        if segment.value is not None:
            array = id(segment.mask.array)
            largest[array] = max(segment.value, largest.get(array, 0))
    boxes: dict[int, list[Box | None]] = {}
    for segment in segments:
        array = id(segment.mask.array)
        if segment.value is not None and array not in boxes:
            boxes[array] = scipy.ndimage.find_objects(segment.mask.array, largest[array])
    return [
        box_of(segment.mask.array) if segment.value is None else boxes[id(segment.mask.array)][segment.value - 1]
        for segment in segments
    ]


def box_of(values: NDArray[Any]) -> Box | None:
    """The box of what is not zero, axis by axis on what is left: a large empty rest is read once."""
    box = [slice(None)] * 3
    for axis in range(3):
        part = values[tuple(box)]
        hit = np.flatnonzero(part.any(axis=tuple({0, 1, 2} - {axis})))
        if hit.size == 0:
            return None
        box[axis] = slice(int(hit[0]), int(hit[-1]) + 1)
    return box[0], box[1], box[2]


def own_masks(segments: Sequence[Outline]) -> list[Volume]:
    """The mask of each segment, cut out of the label map where it lies in one."""
    return [_own_mask(segment, box) for segment, box in zip(segments, boxes_of(segments), strict=True)]


def _own_mask(segment: Outline, box: Box | None) -> Volume:
    if segment.value is None:
        return segment.mask
    index: Any = (slice(0, 1),) * 3 if box is None else box
    part = segment.mask[index]
    return part.with_array(inside(part.array, segment.value))
