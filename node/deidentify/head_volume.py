"""What may be shown of a series in CT or MR: its images as coarse volumes, and the depth below the surface in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut
from scipy import ndimage

from node.deidentify.head_surface import Floats, margin_below_surface
from node.deidentify.source_images import SourceImage
from node.errors import GateError, InputError
from node.pipeline import Unsuitable
from node.studies.characteristics.image_kind import kind_of
from node.studies.frames import split_frames
from node.studies.grid import ORIENTATION_TOLERANCE, numbers
from node.studies.header import read_header
from node.studies.pixel_data import padding, read_pixels

_LEAST_MM, _MOST_MM = 2.5, 5.0
"""Between voxels of a coarse volume."""
_MOST_VOXELS = 6e6
"""Of a coarse volume; a larger one, of a whole body, is coarser."""
_LEAST_SLICES, _LEAST_EXTENT_MM = 10, 25.0
_WIDEST_GAP_MM = 7.5
"""Between the middles of two slices: what is further apart shows no surface."""
_SAME_PLACE_MM = 0.05
_MOST_VOLUMES, _MOST_IMAGES, _MOST_VOXELS_OF_ALL = 64, 4096, 4e7
"""In one series, for example of several b-values: what can be computed within the bounds of the process."""
_SPACING_MM = (0.05, 8.0)
_LEAST_HU, _MOST_HU = -1024.0, 3071.0
_KNOWN_SERIES = 16
"""Deliveries take turns; a series has 6 MiB at most."""
_TENTHS = 10
_MOST_TENTHS = 127


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """What may be shown of the images of one orientation in a series."""

    frame_of_reference_uid: str
    axes: NDArray[np.float64]
    """Unit vectors of slices, rows and columns, LPS: ``[axis, 3]``."""
    origin: NDArray[np.float64]
    """Place of the first voxel along ``axes``, mm."""
    mm: float
    margin: NDArray[np.int8]
    """``[slice, row, column]``: where it is above 0, the series may be shown. Tenths of mm; empty with ``fault``."""
    fault: str = ""
    """Why nothing of these images may be shown."""

    def is_of(self, frame: Dataset) -> bool:
        """Whether an image lies in planes of this orientation, and in this frame of reference."""
        uid = str(frame.get("FrameOfReferenceUID") or "")
        if self.frame_of_reference_uid and uid != self.frame_of_reference_uid:
            return False
        return bool(np.abs(_axes(frame) - self.axes).max() <= ORIENTATION_TOLERANCE)

    def shown_pixels(self, frame: Dataset) -> NDArray[np.bool_]:
        """Return which pixels ``[row, column]`` of an image may be shown. Raises ``GateError`` with ``fault``."""
        if self.fault:
            raise GateError(self.fault)
        rows, columns, spacing = int(frame.Rows), int(frame.Columns), numbers(frame, "PixelSpacing", 2)
        if spacing is None:
            raise GateError("PixelSpacing is absent")
        place = self.axes @ _position(frame) - self.origin
        grid = np.meshgrid(np.arange(rows) * spacing[0], np.arange(columns) * spacing[1], indexing="ij")
        at = [np.full((rows, columns), place[0]), place[1] + grid[0], place[2] + grid[1]]
        margin = ndimage.map_coordinates(
            self.margin, np.stack(at) / self.mm, order=1, mode="constant", cval=-_MOST_TENTHS, output=np.float32
        )
        return np.asarray(margin > 0)


@lru_cache(maxsize=_KNOWN_SERIES)
def regions_of(images: tuple[SourceImage, ...]) -> tuple[Region, ...]:
    """Return what may be shown of a series; one region for each orientation of its images.

    Images that are no original slices in grey belong to none. Raises ``InputError`` for files that cannot be read.
    """
    if any(image.state is None for image in images):
        raise InputError("an image of the series cannot be read; `ainode verify` names it")
    paths = [image.path for image in images]
    frames = [(path, frame) for path in paths for frame in split_frames(read_header(path)) if not fault_of(frame)]
    regions: list[Region] = []
    while frames:
        first = frames[0][1]
        empty = Region(
            frame_of_reference_uid=str(first.get("FrameOfReferenceUID") or ""),
            axes=_axes(first),
            origin=np.zeros(3),
            mm=1.0,
            margin=np.zeros((0, 0, 0), np.int8),
        )
        regions.append(_region(empty, [pair for pair in frames if empty.is_of(pair[1])]))
        frames = [pair for pair in frames if not empty.is_of(pair[1])]
    return tuple(regions)


def fault_of(frame: Dataset) -> str:
    """Return why an image is no original slice of a volume; empty when it may be one."""
    kind = kind_of(frame)
    if kind != "original":
        return f"ImageType says {kind or 'nothing'}, and original slices alone have a surface that can be found"
    if int(frame.get("SamplesPerPixel") or 1) != 1:
        return "it is in colour"
    spacing = numbers(frame, "PixelSpacing", 2)
    if spacing is None or not all(_SPACING_MM[0] <= mm <= _SPACING_MM[1] for mm in spacing):
        return "PixelSpacing is absent or none of a scanner"
    if numbers(frame, "ImagePositionPatient", 3) is None or numbers(frame, "ImageOrientationPatient", 6) is None:
        return "ImagePositionPatient or ImageOrientationPatient is absent"
    if np.abs(_axes(frame) @ _axes(frame).T - np.eye(3)).max() > ORIENTATION_TOLERANCE:
        return "ImageOrientationPatient does not hold two perpendicular unit vectors"
    if not frame.get("Rows") or not frame.get("Columns"):
        return "Rows or Columns is absent"
    return ""


def _axes(frame: Dataset) -> NDArray[np.float64]:
    """Return the unit vectors of slices, rows and columns."""
    cosines = np.asarray(frame.ImageOrientationPatient, float)
    return np.stack([np.cross(cosines[:3], cosines[3:]), cosines[3:], cosines[:3]])


def _position(frame: Dataset) -> NDArray[np.float64]:
    return np.asarray(frame.ImagePositionPatient, float)


_Frames = list[tuple[Path, Dataset]]


def _region(empty: Region, frames: _Frames) -> Region:
    """Find what may be shown of the images of one orientation."""
    try:
        volumes = _volumes(empty.axes, frames)
        places = np.array([empty.axes @ _position(frame) for _, frame in frames])
        origin = places.min(axis=0)
        extent = (places + [[0, *_size(frame)] for _, frame in frames]).max(axis=0) - origin
        mm = _spacing(extent)
        shape = tuple(ceil(length / mm) + 1 for length in extent)
        if len(frames) > _MOST_IMAGES or prod(shape) * len(volumes) > _MOST_VOXELS_OF_ALL:
            return replace(empty, fault=f"{len(frames)} images in {len(volumes)} volumes are too many")
        margin = np.minimum.reduce([_margin(volume, empty.axes, origin, mm, shape) for volume in volumes])
    except (InputError, GateError, Unsuitable) as error:
        return replace(empty, fault=str(error))
    if not (margin > 0).any():
        return replace(empty, fault="nothing of it is deep enough below the surface")
    tenths = np.clip(margin * _TENTHS, -_MOST_TENTHS, _MOST_TENTHS).astype(np.int8)
    return replace(empty, origin=origin, mm=mm, margin=tenths)


def _spacing(extent: NDArray[np.float64]) -> float:
    """Return the mm between voxels of a coarse volume."""
    mm = max(_LEAST_MM, float(prod(extent + _LEAST_MM) / _MOST_VOXELS) ** (1 / 3))
    if mm > _MOST_MM:
        raise GateError(f"a volume of {' x '.join(f'{length:.0f}' for length in extent)} mm is too large")
    return mm


def _size(frame: Dataset) -> tuple[float, float]:
    """Return the distance in mm between the middles of the first and of the last pixel, along rows and columns."""
    return (int(frame.Rows) - 1) * float(frame.PixelSpacing[0]), (int(frame.Columns) - 1) * float(frame.PixelSpacing[1])


def _volumes(axes: NDArray[np.float64], frames: _Frames) -> list[_Frames]:
    """Return the images of each volume, sorted along the slices."""
    heights = [float(axes[0] @ _position(frame)) for _, frame in frames]
    order = sorted(range(len(frames)), key=lambda at: heights[at])
    slices: list[list[int]] = []
    for at in order:
        if slices and heights[at] - heights[slices[-1][0]] <= _SAME_PLACE_MM:
            slices[-1].append(at)
        else:
            slices.append([at])
    steps = np.diff([heights[members[0]] for members in slices])
    extent = float(steps.sum())
    if len(slices) < _LEAST_SLICES or extent < _LEAST_EXTENT_MM:
        raise GateError(
            f"{len(slices)} slices over {extent:.0f} mm are no volume; {_LEAST_SLICES} over {_LEAST_EXTENT_MM:.0f} mm "
            "are needed"
        )
    if float(steps.max()) > _WIDEST_GAP_MM:
        raise GateError(f"two slices are {float(steps.max()):.1f} mm apart, more than {_WIDEST_GAP_MM} mm")
    numbers_of_images = {len(members) for members in slices}
    if len(numbers_of_images) > 1 or max(numbers_of_images) > _MOST_VOLUMES:
        raise GateError(f"{min(numbers_of_images)} to {max(numbers_of_images)} images lie on one place")
    for members in slices:
        members.sort(key=lambda at: _sorted_by(frames[at][1]))
    return [[frames[members[at]] for members in slices] for at in range(numbers_of_images.pop())]


def _sorted_by(frame: Dataset) -> tuple[str, float, str, int]:
    """Return what sorts the images of a place into volumes."""
    number = numbers(frame, "InstanceNumber", 1)
    first = -1.0 if number is None else float(number[0])
    kind = "\\".join(str(value) for value in frame.get("ImageType") or ())
    return kind, first, str(frame.SOPInstanceUID), int(frame.get("ReferencedFrameNumber") or 0)


def _margin(
    frames: _Frames, axes: NDArray[np.float64], origin: NDArray[np.float64], mm: float, shape: tuple[int, ...]
) -> Floats:
    """Decode the images of one volume; return its margin."""
    is_ct = frames[0][1].get("Modality") == "CT"
    sums, counts = np.zeros(shape, np.float32), np.zeros(shape[0], np.int64)
    for path, of_file in groupby(frames, key=lambda pair: pair[0]):
        headers = [frame for _, frame in of_file]
        for header, values in zip(headers, read_pixels(path, headers, _values), strict=True):
            place = (axes @ _position(header) - origin) / mm
            at = round(place[0])
            sums[at] += _coarse(values, header, place[1:], mm, shape[1:], is_ct=is_ct)
            counts[at] += 1
    filled = np.flatnonzero(counts)
    sums[filled] /= counts[filled, None, None]
    for at in np.flatnonzero(counts == 0):
        after = min(int(np.searchsorted(filled, at)), len(filled) - 1)
        before = max(after - 1, 0)
        low, high = filled[before], filled[after]
        part = min(max((at - low) / (high - low), 0.0), 1.0)
        sums[at] = sums[low] * (1 - part) + sums[high] * part
    return margin_below_surface(sums, mm, is_ct=is_ct)


def _values(stored: NDArray[Any], header: Dataset) -> Floats:
    """Return the values of an image; where it is padded, those of air."""
    values = np.array(apply_modality_lut(stored, header), np.float32)
    values[padding(stored, header)] = _air(header)
    return values


def _air(header: Dataset) -> float:
    return _LEAST_HU if header.get("Modality") == "CT" else 0.0


def _coarse(
    values: Floats, header: Dataset, place: NDArray[Any], mm: float, shape: tuple[int, ...], *, is_ct: bool
) -> Floats:
    """Average an image to voxels of a coarse volume; what lies outside of the image is air."""
    if is_ct:
        values = np.clip(values, _LEAST_HU, _MOST_HU)
    elif float(values.min()) < 0:
        raise GateError("its values are below 0, as those of MR magnitude images are not")
    spacing = [float(value) for value in header.PixelSpacing]
    values = ndimage.uniform_filter(values, [max(1, round(mm / distance)) for distance in spacing], mode="nearest")
    rows, columns = (
        (np.arange(size) - first) * mm / distance for size, first, distance in zip(shape, place, spacing, strict=True)
    )
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    around = ndimage.map_coordinates(values, grid, order=1, mode="constant", cval=_air(header))
    return np.asarray(around, np.float32)
