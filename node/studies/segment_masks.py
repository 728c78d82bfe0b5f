"""Masks of a Segmentation on the images that it refers to, and how far two of them agree. Runs confined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import iter_pixels

from node.errors import InputError
from node.studies.bounded_file import BoundedFile
from node.studies.grid import ORIENTATION_TOLERANCE
from node.studies.pixel_size import check_pixel_size
from node.studies.pydicom_errors import NOT_DICOM, UNDECODABLE
from node.studies.source import SourceSeries

POSITION_TOLERANCE_MM = 0.1
"""How far a frame may lie from its image: workstations round positions."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(eq=False)
class SegmentMask:
    """Where one segment lies: on each image, by its index in the series, a part of it."""

    parts: dict[int, tuple[int, int, Bools]] = field(default_factory=dict)
    """Image -> first row, first column, pixels."""

    @property
    def voxels(self) -> int:
        """How many pixels are inside, of all images."""
        return sum(int(np.count_nonzero(part)) for _, _, part in self.parts.values())

    def add(self, image: int, pixels: Bools) -> None:
        """Add the pixels of one frame."""
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        if not rows.size:
            return
        if image in self.parts:
            pixels = pixels | _whole(self.parts[image], pixels.shape)
            rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        part = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
        self.parts[image] = int(rows[0]), int(columns[0]), part

    def common(self, other: SegmentMask) -> int:
        """How many voxels are inside both."""
        return sum(_overlap(part, other.parts[image]) for image, part in self.parts.items() if image in other.parts)

    def dice(self, other: SegmentMask) -> float:
        """Twice the common voxels over all of both, 0 to 1; 0 when both are empty."""
        total = self.voxels + other.voxels
        return 2 * self.common(other) / total if total else 0.0

    def surface_mm(self, source: SourceSeries) -> Floats:
        """``[n, 3]``, LPS mm: the voxels that have one of their six neighbours outside."""
        from scipy.ndimage import binary_erosion

        volume, low = self._volume(source)
        border = np.argwhere(volume & ~binary_erosion(volume)) + low
        affine = np.asarray(source.grid.affine, float)
        return np.asarray(border @ affine[:3, :3].T + affine[:3, 3])

    def _volume(self, source: SourceSeries) -> tuple[Bools, NDArray[np.int64]]:
        """The box round the mask with a margin of one voxel, and the index of its first voxel in the grid."""
        corners = np.array([corner for image, part in self.parts.items() for corner in _corners(source, image, part)])
        low = corners.min(axis=0) - 1
        volume = np.zeros(corners.max(axis=0) - low + 2, np.bool_)
        for image, (_, _, pixels) in self.parts.items():
            z, row, column = _first(source, image, self.parts[image]) - low
            volume[z, row : row + pixels.shape[0], column : column + pixels.shape[1]] |= pixels
        return volume, low


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentedObject:
    """A Segmentation with the mask of each of its segments; a segment without voxels has an empty one."""

    dataset: Dataset
    segments: Mapping[int, Dataset]
    """Items of Segment Sequence by number, without the background of a label map."""
    masks: Mapping[int, SegmentMask]


def read_object(path: Path) -> Dataset:
    """Read a file with its pixel data. Raises ``InputError``."""
    try:
        with BoundedFile(path) as file:
            return dcmread(file)
    except NOT_DICOM as error:
        raise InputError(f"{path.name}: cannot be read ({error})") from error


def masks_on(dataset: Dataset, source: SourceSeries) -> SegmentedObject:
    """Put every segment on the images of ``source``.

    Raises ``InputError`` when a frame lies on none of them, or cannot be decoded.
    """
    try:
        segmentation_type = str(dataset.SegmentationType)
        if segmentation_type not in ("BINARY", "LABELMAP"):
            raise InputError(f"Segmentation Type {segmentation_type} is not compared; BINARY and LABELMAP are")
        segments = {int(item.SegmentNumber): item for item in dataset.SegmentSequence}
        if segmentation_type == "LABELMAP":
            segments.pop(0, None)  # the background
        masks = {number: SegmentMask() for number in segments}
        for image, frame, number in _frames(dataset, source):
            for value in (number,) if number is not None else np.unique(frame).tolist():
                if value in masks:
                    masks[value].add(image, frame > 0 if number is not None else frame == value)
    except UNDECODABLE as error:
        raise InputError(f"its segments cannot be understood ({type(error).__name__}: {error})") from error
    return SegmentedObject(dataset=dataset, segments=segments, masks=masks)


def hd95_mm(one: SegmentMask, other: SegmentMask, source: SourceSeries) -> float | None:
    """95th percentile of the distances between both surfaces, the greater of both directions, mm."""
    from scipy.spatial import cKDTree

    if not one.voxels or not other.voxels or source.grid.affine is None:
        return None
    here, there = one.surface_mm(source), other.surface_mm(source)
    distances = cKDTree(there).query(here)[0], cKDTree(here).query(there)[0]
    return float(max(np.percentile(away, 95) for away in distances))


def voxel_mm3(source: SourceSeries) -> float:
    """Volume of a voxel of the grid. Raises ``InputError`` without a grid."""
    if source.grid.affine is None:
        raise InputError(f"series {source.series_instance_uid}: {source.grid.fault}")
    return float(abs(np.linalg.det(source.grid.affine[:3, :3])))


def place_in_grid(mask: SegmentMask, source: SourceSeries) -> Iterator[tuple[tuple[int, slice, slice], Bools]]:
    """Where each part of a mask lies in ``source.volume()``, and its pixels there."""
    for image, part in mask.parts.items():
        z, row, column = _first(source, image, part)
        rows, columns = part[2].shape
        yield (int(z), slice(row, row + rows), slice(column, column + columns)), part[2]


def _frames(dataset: Dataset, source: SourceSeries) -> Iterator[tuple[int, NDArray[Any], int | None]]:
    """Index of the image, pixels, and Segment Number (``None``: of a label map) of each frame."""
    check_pixel_size(dataset)
    places = {_key(str(h.SOPInstanceUID), h.get("ReferencedFrameNumber")): i for i, h in enumerate(source.datasets)}
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    size = int(source.datasets[0].Rows), int(source.datasets[0].Columns)
    if (int(dataset.Rows), int(dataset.Columns)) != size:
        raise InputError(f"its frames have {dataset.Rows} x {dataset.Columns} pixels, the images {size[0]} x {size[1]}")
    frames = iter_pixels(dataset)
    for groups, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
        image = _image(groups, shared, places, source)
        number = None
        if dataset.SegmentationType != "LABELMAP":
            identified = _group(groups, shared, "SegmentIdentificationSequence")
            if identified is None:
                raise InputError("a frame names no segment")
            number = int(identified.ReferencedSegmentNumber)
        yield image, frame, number


def _image(groups: Dataset, shared: Dataset, places: Mapping[tuple[str, int], int], source: SourceSeries) -> int:
    """The image on which a frame lies: its position says so; the reference to an image does where it states none."""
    derivation = _group(groups, shared, "DerivationImageSequence")
    sources = derivation.get("SourceImageSequence") if derivation is not None else None
    named = _key(str(sources[0].ReferencedSOPInstanceUID), sources[0].get("ReferencedFrameNumber")) if sources else None
    position = _group(groups, shared, "PlanePositionSequence")
    if position is None or not position.get("ImagePositionPatient"):
        if named is not None and named in places:
            return places[named]
        raise InputError("a frame names neither an image of the series nor a position")
    orientation = _group(groups, shared, "PlaneOrientationSequence")
    if orientation is not None:
        turned = np.subtract(
            orientation.ImageOrientationPatient, source.datasets[0].ImageOrientationPatient, dtype=float
        )
        if np.abs(turned).max() > ORIENTATION_TOLERANCE:
            raise InputError("its frames are turned against the images")
    there = np.array([header.ImagePositionPatient for header in source.datasets], float)
    away = np.linalg.norm(there - np.array(position.ImagePositionPatient, float), axis=1)
    nearest = int(away.argmin())
    if away[nearest] > POSITION_TOLERANCE_MM:
        raise InputError(f"a frame lies {away[nearest]:.1f} mm from the nearest image")
    return nearest


def _group(groups: Dataset, shared: Dataset, keyword: str) -> Dataset | None:
    items = groups.get(keyword) or shared.get(keyword)
    return items[0] if items else None


def _key(uid: str, frame: Any) -> tuple[str, int]:
    return uid, int(frame or 1)


def _first(source: SourceSeries, image: int, part: tuple[int, int, Bools]) -> NDArray[np.int64]:
    """Index in the grid of the first voxel of a part: slice, row, column."""
    down, right = source.offsets[image] if source.offsets else (0, 0)
    return np.array((source.slices[image], part[0] + down, part[1] + right), np.int64)


def _corners(source: SourceSeries, image: int, part: tuple[int, int, Bools]) -> tuple[NDArray[np.int64], ...]:
    first = _first(source, image, part)
    return first, first + np.array((0, part[2].shape[0] - 1, part[2].shape[1] - 1))


def _whole(part: tuple[int, int, Bools], shape: tuple[int, ...]) -> Bools:
    whole = np.zeros(shape, np.bool_)
    row, column, pixels = part
    whole[row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels
    return whole


def _overlap(part: tuple[int, int, Bools], other: tuple[int, int, Bools]) -> int:
    top, left = max(part[0], other[0]), max(part[1], other[1])
    bottom = min(part[0] + part[2].shape[0], other[0] + other[2].shape[0])
    right = min(part[1] + part[2].shape[1], other[1] + other[2].shape[1])
    if top >= bottom or left >= right:
        return 0
    parts = (p[top - r : bottom - r, left - c : right - c] for r, c, p in (part, other))
    return int(np.count_nonzero(np.logical_and(*parts)))
