"""Resampling of masks to the grid of the source images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray

from node.errors import EncodeError
from node.pipeline.label_map import Box, box_of, inside

Voxels = NDArray[np.bool_]

ALIGNMENT_TOLERANCE = 1e-3
"""Two grids are the same one permuted, flipped or cropped when no voxel centre is off by more voxels than this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedMask:
    """The part of the source grid that holds a mask."""

    box: Box
    """Where ``labels`` lie: image, row, column of the source; empty slices for an empty mask."""
    labels: NDArray[Any]
    """True inside, or with ``value`` inside where a label map has it: that of all segments is kept in memory once."""
    value: int | None = None

    @property
    def voxels(self) -> Voxels:
        """What is inside, of the whole box."""
        return inside(self.labels, self.value)

    def plane(self, image: int) -> Voxels:
        """What is inside on one image of the source, within the rows and columns of the box."""
        return inside(self.labels[image - self.box[0].start], self.value)

    @property
    def empty(self) -> bool:
        """No voxel is inside."""
        return not self.areas.any()

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Number of voxels on each image of the box."""
        return np.array([np.count_nonzero(inside(plane, self.value)) for plane in self.labels], np.int64)

    @property
    def images(self) -> list[int]:
        """Images of the source on which it has voxels."""
        first: int = self.box[0].start
        return [first + index for index in np.flatnonzero(self.areas).tolist()]


def place(
    mask: Volume, geometry: VolumeGeometry, name: str, *, value: int | None = None, box: Box | None = None
) -> PlacedMask:
    """Put a mask of any grid of the same frame of reference on the source grid.

    ``value``: see ``Segment``; ``box``: where the mask is not empty, ``None``: nowhere, or not known without a value.

    A grid that is the source's own, permuted, flipped, cropped or padded, keeps its voxels exactly. Any other is
    sampled at the source's voxel centres: linear interpolation, inside where it is at least one half. A mask that
    falls between the source's voxels keeps the one nearest to its centre, so that nothing that was found vanishes.

    Raises ``EncodeError`` when the frames of reference differ, or a mask that is not empty misses the source grid.
    """
    uids = {mask.frame_of_reference_uid, geometry.frame_of_reference_uid} - {None}
    if len(uids) > 1:
        raise EncodeError(f"Segment.mask of {name!r} is in another frame of reference; use the affine of the series")
    values = np.asarray(mask.array)
    bounds = box_of(values) if value is None else box
    if bounds is None:
        return PlacedMask(box=(slice(0, 0),) * 3, labels=np.zeros((0, 0, 0), np.bool_))
    # index in the mask -> index in the source
    to_source = np.linalg.inv(geometry.affine) @ mask.affine
    part = values[bounds] if value is not None else inside(values[bounds], None)
    offset = to_source[:3, :3] @ [s.start for s in bounds] + to_source[:3, 3]
    matrix = to_source[:3, :3]
    placed = _align(part, value, matrix, offset) or _sample(inside(part, value), matrix, offset, geometry.spatial_shape)
    clipped = _clip(placed, geometry.spatial_shape)
    if clipped.empty:
        raise EncodeError(f"Segment.mask of {name!r} lies outside the source images; check its affine (LPS, mm)")
    return clipped


def on_images(mask: PlacedMask, offsets: Sequence[tuple[int, int]], rows: int, columns: int) -> PlacedMask:
    """From the grid of a tilted series, where image ``i`` begins at ``offsets[i]``, to rows and columns of the images.

    Voxels that lie outside all images are dropped.
    """
    if not offsets or mask.empty:
        return mask
    first, last = mask.box[0].start, mask.box[0].stop
    begin = [min(mask.box[axis].start - offsets[i][axis - 1] for i in range(first, last)) for axis in (1, 2)]
    end = [max(mask.box[axis].stop - offsets[i][axis - 1] for i in range(first, last)) for axis in (1, 2)]
    voxels = np.zeros((last - first, end[0] - begin[0], end[1] - begin[1]), np.bool_)
    for index, image in enumerate(mask.voxels):
        top, left = (mask.box[axis].start - offsets[first + index][axis - 1] - begin[axis - 1] for axis in (1, 2))
        voxels[index, top : top + image.shape[0], left : left + image.shape[1]] = image
    moved = PlacedMask(box=_box((first, *begin), voxels.shape), labels=voxels)
    return _clip(moved, (last, rows, columns))


def with_images(mask: PlacedMask, slices: Sequence[int]) -> PlacedMask:
    """From slices of the grid to images, of which image ``i`` lies on ``slices[i]``; a slice without one is dropped."""
    if mask.empty or slices[-1] + 1 == len(slices):
        return mask
    on = [image for image, at in enumerate(slices) if mask.box[0].start <= at < mask.box[0].stop]
    voxels = mask.voxels[[slices[image] - mask.box[0].start for image in on]]
    start = on[0] if on else 0
    return PlacedMask(box=(slice(start, start + len(on)), *mask.box[1:]), labels=voxels)


def _align(
    part: NDArray[Any], value: int | None, matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> PlacedMask | None:
    """Permute and flip when the grids agree; ``None`` when they do not."""
    whole, start = np.rint(matrix), np.rint(offset)
    permutation = np.abs(whole).sum(axis=0).tolist() == [1, 1, 1] and np.abs(whole).sum(axis=1).tolist() == [1, 1, 1]
    extent = np.array(part.shape, dtype=float)
    drift = np.abs(matrix - whole) @ extent + np.abs(offset - start)
    if not permutation or drift.max() > ALIGNMENT_TOLERANCE:
        return None
    axes = np.abs(whole).argmax(axis=1)  # axis of the mask along each axis of the source
    turned = part.transpose(axes)
    signs = whole[np.arange(3), axes]
    turned = turned[tuple(slice(None, None, int(s)) for s in signs)]
    first = [int(start[a]) - (turned.shape[a] - 1 if signs[a] < 0 else 0) for a in range(3)]
    return PlacedMask(box=_box(first, turned.shape), labels=turned, value=value)


def _sample(part: Voxels, matrix: NDArray[np.float64], offset: NDArray[np.float64], shape: Iterable[int]) -> PlacedMask:
    """Interpolate at the source's voxel centres around the mask."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in part.shape], indexing="ij")).reshape(3, -1)
    reached = matrix @ corners + offset[:, None]
    low = np.maximum(np.floor(reached.min(axis=1)).astype(int), 0)
    high = np.minimum(np.ceil(reached.max(axis=1)).astype(int) + 1, np.array(tuple(shape)))
    if (high <= low).any():
        return PlacedMask(box=(slice(0, 0),) * 3, labels=np.zeros((0, 0, 0), np.bool_))
    to_mask = np.linalg.inv(matrix)
    values = scipy.ndimage.affine_transform(
        part.astype(np.float32),
        to_mask,
        offset=to_mask @ (low - offset),
        output_shape=tuple(high - low),
        order=1,
        mode="grid-constant",
    )
    voxels = values >= 0.5 - 1e-4  # half, less the rounding of float32
    if voxels.any():
        return PlacedMask(box=_box(low.tolist(), voxels.shape), labels=voxels)
    nearest = np.rint(matrix @ [float(i.mean()) for i in np.nonzero(part)] + offset).astype(int)
    return PlacedMask(box=_box(nearest.tolist(), (1, 1, 1)), labels=np.ones((1, 1, 1), np.bool_))


def _box(first: Iterable[int], shape: Iterable[int]) -> Box:
    a, b, c = (slice(f, f + n) for f, n in zip(first, shape, strict=True))
    return a, b, c


def _clip(placed: PlacedMask, shape: tuple[int, ...]) -> PlacedMask:
    starts = [max(s.start, 0) for s in placed.box]
    stops = [min(s.stop, n) for s, n in zip(placed.box, shape, strict=True)]
    inner = tuple(slice(a - s.start, max(b - s.start, 0)) for a, b, s in zip(starts, stops, placed.box, strict=True))
    labels = placed.labels[inner]
    return PlacedMask(box=_box(starts, labels.shape), labels=labels, value=placed.value)
