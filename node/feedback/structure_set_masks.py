"""Regions of an RT Structure Set on the images of a series (PS3.3 C.8.8.5 and C.8.8.6). Runs confined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.errors import InputError
from node.studies.attributes import STRUCTURE_SET
from node.studies.pydicom_errors import UNDECODABLE
from node.studies.segment_masks import POSITION_TOLERANCE_MM, SegmentedObject, SegmentMask, masks_on
from node.studies.source import SourceSeries

_XOR = "CLOSED_PLANAR_XOR"
_CLOSED = ("CLOSED_PLANAR", _XOR)
_ANATOMY = ("123037004", "SCT", "Anatomical Structure")
_BODY = frozenset({"ORGAN", "AVOIDANCE", "EXTERNAL", "CAVITY", "BOLUS", "SUPPORT", "FIXATION"})
"""RT ROI Interpreted Types (PS3.3 C.8.8.8.1) that are no lesion."""
_EPSILON = 1e-3
"""Pixels: coordinates are written as decimal text."""
_ROUNDING_MM = 0.0075
"""Text with two decimals, as some viewers write it, is up to 0.005 mm off; the rest is for what the images round."""

Points = NDArray[np.float64]
"""``(n, 2)``: column and row, in pixels; (0, 0) is the centre of the first one."""
Pixels = NDArray[np.bool_]


def is_structure_set(dataset: Dataset) -> bool:
    """Whether it is an RT Structure Set."""
    return str(dataset.get("SOPClassUID", "")) == STRUCTURE_SET


def reader_masks_on(dataset: Dataset, source: SourceSeries) -> SegmentedObject:
    """Put the segments or ROIs of a reader's object on the images of ``source``. Raises ``InputError``."""
    return (roi_masks_on if is_structure_set(dataset) else masks_on)(dataset, source)


def roi_masks_on(dataset: Dataset, source: SourceSeries) -> SegmentedObject:
    """Put every ROI on the images of ``source``, as the pixels whose centres lie inside or on its closed contours.

    ROIs are shown as items of a Segment Sequence. Points and open contours enclose nothing. Raises ``InputError`` when
    a contour lies on none of the images, or is not planar.
    """
    try:
        names = {int(item.ROINumber): item for item in dataset.StructureSetROISequence}
        observations = {int(item.ReferencedROINumber): item for item in dataset.get("RTROIObservationsSequence") or ()}
        segments = {number: _segment(item, observations.get(number, Dataset())) for number, item in names.items()}
        masks = {number: SegmentMask() for number in segments}
        for item in dataset.get("ROIContourSequence") or ():
            number = int(item.ReferencedROINumber)
            if number in masks:
                for image, pixels in _regions(item.get("ContourSequence") or (), source).items():
                    masks[number].add(image, pixels)
    except UNDECODABLE as error:
        raise InputError(f"its contours cannot be understood ({type(error).__name__}: {error})") from error
    return SegmentedObject(dataset=dataset, segments=segments, masks=masks)


def _segment(roi: Dataset, observation: Dataset) -> Dataset:
    """A ROI in the attributes of an item of Segment Sequence."""
    item = Dataset()
    item.SegmentNumber = int(roi.ROINumber)
    item.SegmentLabel = str(roi.get("ROIName") or "")
    item.SegmentAlgorithmType = str(roi.get("ROIGenerationAlgorithm") or "")
    if roi.get("TrackingUID"):
        item.TrackingUID = roi.TrackingUID
    if codes := observation.get("RTROIIdentificationCodeSequence"):
        item.SegmentedPropertyTypeCodeSequence = codes
    if str(observation.get("RTROIInterpretedType") or "") in _BODY:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _ANATOMY
        item.SegmentedPropertyCategoryCodeSequence = [code]
    return item


def _regions(contours: Sequence[Dataset], source: SourceSeries) -> dict[int, Pixels]:
    """Image -> what the closed contours of one ROI enclose there.

    A contour within another one is a hole, within a hole a part, as equipment writes them; contours that overlap
    otherwise are united, unless their type says that they exclude one another.
    """
    by_image: dict[int, list[tuple[Points, bool]]] = defaultdict(list)
    for contour in contours:
        if contour.get("ContourGeometricType") in _CLOSED and contour.get("ContourData"):
            image, points = _on_image(np.asarray(contour.ContourData, float).reshape(-1, 3), source)
            by_image[image].append((points, contour.ContourGeometricType == _XOR))
    regions = {}
    if not by_image:
        return {}
    pixel_mm = np.linalg.norm(np.asarray(source.grid.affine, float)[:3, 1:3], axis=0)
    reach = max(_EPSILON, _ROUNDING_MM / float(pixel_mm.min()))
    for image, parts in by_image.items():
        header = source.datasets[image]
        shape = int(header.Rows), int(header.Columns)
        region = np.zeros(shape, np.bool_)
        for points, excludes in sorted(
            ((_on_centres(points, reach), excludes) for points, excludes in parts), key=lambda part: -_area(part[0])
        ):
            inside, border = _enclosed(points, shape)
            if excludes or not (inside & ~region).any():
                region = (region ^ inside) | border
            else:
                region |= inside | border
        regions[image] = region
    return regions


def _on_image(points: NDArray[np.float64], source: SourceSeries) -> tuple[int, Points]:
    """The image on which a contour (x, y, z in mm, LPS) lies, and its points there."""
    if source.grid.affine is None:
        raise InputError(f"series {source.series_instance_uid}: {source.grid.fault}")
    if not np.isfinite(points).all():
        raise InputError("a contour has coordinates that are no numbers")
    affine = np.asarray(source.grid.affine, float)
    indices = (points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    place = round(float(indices[0, 0]))
    away = np.abs(indices[:, 0] - place).max() * float(np.linalg.norm(affine[:3, 0]))
    if away > POSITION_TOLERANCE_MM or place not in source.slices:
        raise InputError(f"a contour lies on none of the images: {away:.1f} mm from the nearest slice")
    image = source.slices.index(place)
    down, right = source.offsets[image] if source.offsets else (0, 0)
    return image, indices[:, [2, 1]] - (right, down)


def _on_centres(points: Points, reach: float) -> Points:
    """Points with the coordinates of a pixel's centre where they are within ``reach`` of it, in pixels."""
    near = np.round(points)
    return np.where(np.abs(points - near) < reach, near, points)


def _area(points: Points) -> float:
    columns, rows = points.T
    return abs(float(columns @ np.roll(rows, 1) - rows @ np.roll(columns, 1))) / 2


def _enclosed(points: Points, shape: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """Pixels whose centres a polygon encloses (even-odd rule), and those whose centres lie on it."""
    inside, border = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    following = np.roll(points, -1, axis=0)
    (x, y), (x_next, y_next) = points.T, following.T
    first, last = max(int(np.ceil(y.min())), 0), min(int(np.floor(y.max())), shape[0] - 1)
    for row in range(first, last + 1):
        crosses = (y <= row) != (y_next <= row)
        at = np.sort(x[crosses] + (row - y[crosses]) * (x_next - x)[crosses] / (y_next - y)[crosses])
        for begin, end in zip(at[::2], at[1::2], strict=True):
            _fill(inside[row], begin, end)
        for place in at[np.abs(at - np.round(at)) < _EPSILON]:
            _fill(border[row], place, place)
        for begin, end in zip(x[(y == row) & (y_next == row)], x_next[(y == row) & (y_next == row)], strict=True):
            _fill(border[row], min(begin, end), max(begin, end))
        for place in x[y == row]:
            _fill(border[row], place, place)
    return inside, border


def _fill(row: Pixels, begin: float, end: float) -> None:
    """Set the pixels whose centres lie between two columns, both included."""
    row[max(int(np.ceil(begin - _EPSILON)), 0) : max(int(np.floor(end + _EPSILON)) + 1, 0)] = True
