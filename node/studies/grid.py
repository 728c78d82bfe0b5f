"""Where the slices of a series lie: sorting, the affine of the regular grid they form, or why they form none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

Floats = NDArray[np.float64]

STEP_TOLERANCE = 0.05
"""Largest deviation of one slice step from the median step, as a fraction of it."""
POSITION_TOLERANCE_MM = 0.01
"""Slices nearer than this along the normal are at the same position."""
SHEAR_TOLERANCE = 0.02
"""Largest in-plane shift per step, as a fraction of the step (about 1.1 degrees of gantry tilt)."""
ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within a series."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """How the images of one series lie in space."""

    order: tuple[int, ...]
    """Indices of the given datasets, sorted along the slice normal (by Instance Number without geometry)."""
    affine: Floats | None
    """4 x 4, ``(slice, row, column, 1)`` to LPS mm; ``None`` when ``fault`` says why there is none."""
    fault: str
    """Why the images are no regular grid, in words for a radiologist; empty when they are one."""
    gap: bool = False
    """Steps are whole multiples of the usual one: images are missing in between."""


def slice_normal(dataset: Dataset) -> Floats:
    """Unit normal of an image plane, LPS (PS3.3 C.7.6.2.1.1)."""
    cosines = np.asarray(dataset.ImageOrientationPatient, dtype=float)
    return np.cross(cosines[:3], cosines[3:])


def plane_name(cosines: Sequence[float]) -> str:
    """``axial``, ``coronal``, ``sagittal``, or ``oblique`` when the normal is over 45 degrees from every axis."""
    normal = np.abs(np.cross(np.asarray(cosines[:3], float), np.asarray(cosines[3:], float)))
    axis = int(normal.argmax())
    return ("sagittal", "coronal", "axial")[axis] if normal[axis] > np.sqrt(0.5) else "oblique"


def _numbers(dataset: Dataset, keyword: str, count: int) -> Floats | None:
    value: Any = dataset.get(keyword)
    if value is None or isinstance(value, str) or len(value) != count:
        return None
    numbers = np.asarray([float(v) for v in value])
    return numbers if np.isfinite(numbers).all() else None


def _unplaced(datasets: Sequence[Dataset], fault: str, *, gap: bool = False) -> Grid:
    order = sorted(range(len(datasets)), key=lambda i: (int(datasets[i].get("InstanceNumber") or 0), i))
    return Grid(order=tuple(order), affine=None, fault=fault, gap=gap)


def describe(datasets: Sequence[Dataset]) -> Grid:
    """Find the grid of single-frame images ``[slice, row, column]`` of one series; pixel data is not needed."""
    if any("PerFrameFunctionalGroupsSequence" in d or int(d.get("NumberOfFrames") or 1) > 1 for d in datasets):
        return _unplaced(datasets, "multi-frame images are not supported yet; send the series as single-frame images")
    if any("Rows" not in d for d in datasets):
        return _unplaced(datasets, "the series holds objects that are no images")
    first = datasets[0]
    for keyword, count in (("ImageOrientationPatient", 6), ("ImagePositionPatient", 3), ("PixelSpacing", 2)):
        missing = sum(_numbers(d, keyword, count) is None for d in datasets)
        if missing:
            return _unplaced(datasets, f"{keyword} is missing or unusable in {missing} of {len(datasets)} images")
    for keyword in ("Rows", "Columns", "FrameOfReferenceUID"):
        values = {d.get(keyword) for d in datasets}
        if len(values) > 1:
            return _unplaced(datasets, f"{keyword} differs within the series")
    orientations = np.array([_numbers(d, "ImageOrientationPatient", 6) for d in datasets])
    if np.abs(orientations - orientations[0]).max() > ORIENTATION_TOLERANCE:
        return _unplaced(datasets, "the images have different orientations (ImageOrientationPatient)")
    spacings = np.array([_numbers(d, "PixelSpacing", 2) for d in datasets])
    if np.abs(spacings - spacings[0]).max() > POSITION_TOLERANCE_MM or (spacings <= 0).any():
        return _unplaced(datasets, "PixelSpacing differs within the series or is not positive")
    normal = slice_normal(first)
    if abs(np.linalg.norm(normal) - 1) > ORIENTATION_TOLERANCE:
        return _unplaced(datasets, "ImageOrientationPatient does not hold two perpendicular unit vectors")
    positions = np.array([_numbers(d, "ImagePositionPatient", 3) for d in datasets])
    return _stack(first, positions, normal)


def _stack(first: Dataset, positions: Floats, normal: Floats) -> Grid:
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    placed = positions[order]
    steps = np.diff(distances[order])
    fault, gap = "", False
    if len(steps) == 0:
        step_vector = normal * _single_slice_step(first)
    else:
        usual = float(np.sort(steps)[(len(steps) - 1) // 2])  # lower median: of two steps the narrow one
        repeated = int((steps < POSITION_TOLERANCE_MM).sum())
        step_vector = (placed[-1] - placed[0]) / len(steps)
        if repeated:
            fault = f"{repeated} slice positions occur more than once"
        elif np.abs(steps - usual).max() > STEP_TOLERANCE * usual:
            wide = steps[steps > (1 + STEP_TOLERANCE) * usual]
            missing = int((np.rint(wide / usual) - 1).sum())
            multiples = np.abs(steps / usual - np.maximum(np.rint(steps / usual), 1)) <= STEP_TOLERANCE * 2
            gap = bool(missing > 0 and multiples.all())
            fault = (
                f"slices are missing: {missing} at {len(wide)} places (step {usual:g} mm)"
                if gap
                else f"slice steps vary from {steps.min():.3g} to {steps.max():.3g} mm"
            )
        elif np.linalg.norm(step_vector - (step_vector @ normal) * normal) > SHEAR_TOLERANCE * usual:
            fault = "the slices are shifted against each other (tilted gantry)"
    indices = tuple(int(i) for i in order)
    if fault:
        return Grid(order=indices, affine=None, fault=fault, gap=gap)
    cosines = np.asarray(first.ImageOrientationPatient, dtype=float)
    row_spacing, column_spacing = (float(v) for v in first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = normal * float(step_vector @ normal)  # exactly perpendicular: shear within tolerance is rounding
    affine[:3, 1] = cosines[3:] * row_spacing
    affine[:3, 2] = cosines[:3] * column_spacing
    affine[:3, 3] = placed[0]
    return Grid(order=indices, affine=affine, fault="")


def _single_slice_step(dataset: Dataset) -> float:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = dataset.get(keyword)
        if value is not None and float(value) > 0:
            return float(value)
    return 1.0
