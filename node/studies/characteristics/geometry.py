"""Plane, distance of slices, and coverage of a series, computed from the positions of its images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.studies.characteristics.characteristic import Characteristic, Evidence, certain, likely, unknown
from node.studies.grid import LEAST_PART, ORIENTATION_TOLERANCE, POSITION_TOLERANCE_MM, numbers, plane_name
from node.studies.slice_steps import STEP_TOLERANCE
from node.wording import written

Floats = NDArray[np.float64]
_ORIENTATION, _POSITION = "ImageOrientationPatient", "ImagePositionPatient"
_STRAIGHT = 1e-3
"""Largest distance of positions from the straight line through them, as a fraction of its length."""


def geometry_of(evidence: Evidence) -> dict[str, Characteristic]:
    """Return plane, slice spacing and coverage.

    Without orientations they follow from the positions alone, which is right unless the gantry was tilted.
    """
    cosines = [numbers(image, _ORIENTATION, 6) for image in evidence.images]
    oriented = [i for i, values in enumerate(cosines) if values is not None and _is_orientation(values)]
    if not oriented:
        return _of_positions(evidence)
    parallel = _most_parallel(np.array([cosines[i] for i in oriented]))
    images = [evidence.images[oriented[i]] for i in parallel]
    whole = len(images) == len(evidence.images)
    if len(images) <= LEAST_PART * len(evidence.images):
        known = len(oriented) == len(evidence.images)
        plane = certain("mixed", _basis(_ORIENTATION)) if known else unknown([(_ORIENTATION, "")])
        return {"plane": plane, **_unplaced(_ORIENTATION, "not parallel")}
    of = "of all images" if whole else f"of {len(images)} of {len(evidence.images)} images"
    first = np.array(cosines[oriented[parallel[0]]])
    state = certain if whole else likely
    plane = state(plane_name(first.tolist()), [(_ORIENTATION, of)])
    positions = _positions(images)
    if positions is None:
        return {"plane": plane, **_stated(evidence)}
    heights = positions @ np.cross(first[:3], first[3:])
    return {"plane": plane, **_steps(heights, evidence, [(_ORIENTATION, of), (_POSITION, of)], exact=whole)}


def _most_parallel(cosines: Floats) -> NDArray[np.int64]:
    """Return the indices of the largest set of images with one orientation."""
    _, first, groups = np.unique(cosines.round(2), axis=0, return_index=True, return_inverse=True)
    usual = cosines[first[np.bincount(groups.ravel()).argmax()]]
    return np.flatnonzero(np.abs(cosines - usual).max(axis=1) <= ORIENTATION_TOLERANCE)


def _of_positions(evidence: Evidence) -> dict[str, Characteristic]:
    """Take the line through the positions as the normal of the slices."""
    absent = unknown([(_ORIENTATION, "")])
    positions = _positions(evidence.images)
    if positions is None or len(np.unique(positions.round(2), axis=0)) < 3:
        return {"plane": absent, **_stated(evidence)}
    _, lengths, directions = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=False)
    if lengths[1] > _STRAIGHT * lengths[0]:
        return {"plane": absent, **_stated(evidence)}
    normal = directions[0]
    axis = int(np.abs(normal).argmax())
    name = ("sagittal", "coronal", "axial")[axis] if abs(normal[axis]) > np.sqrt(0.5) else "oblique"
    plane = likely(name, [(_ORIENTATION, ""), *_basis(_POSITION)])
    return {"plane": plane, **_steps(positions @ normal, evidence, _basis(_POSITION), exact=False)}


def _steps(
    heights: Floats, evidence: Evidence, basis: Sequence[tuple[str, str]], *, exact: bool
) -> dict[str, Characteristic]:
    places = np.sort(heights)
    places = places[np.insert(np.diff(places) > POSITION_TOLERANCE_MM, 0, True)]
    steps = np.diff(places)
    if not len(steps):
        return _stated(evidence)
    step = float(np.median(steps))
    regular = float(np.abs(steps - step).max()) <= STEP_TOLERANCE * step
    extent = float(places[-1] - places[0]) + step
    state = certain if exact and regular else likely
    of_spacing = basis if regular else [*basis, ("steps in mm", _range(steps))]
    return {
        "slice_spacing_mm": state(written(step), of_spacing),
        "coverage_mm": (certain if exact else likely)(written(extent), [*basis, ("positions", str(len(places)))]),
    }


def _stated(evidence: Evidence) -> dict[str, Characteristic]:
    """Return what attributes say of slices without usable positions; a single image has neither step nor coverage."""
    images = len(evidence.images)
    locations = np.array(evidence.numbers("SliceLocation"))
    spacing = evidence.number("SpacingBetweenSlices")
    if images < 2:
        return _unplaced(_POSITION, "of one image")
    if len(locations) == images and images > 2:
        step = float(np.median(np.diff(locations)))
        basis = [(_POSITION, ""), ("SliceLocation", _range(locations))]
        return {
            "slice_spacing_mm": likely(written(step), basis),
            "coverage_mm": likely(written(float(np.ptp(locations)) + step), basis),
        }
    absent = _unplaced(_POSITION)
    if spacing is not None and spacing > 0:
        absent["slice_spacing_mm"] = likely(written(spacing), evidence.basis("SpacingBetweenSlices"))
    return absent


def _unplaced(keyword: str, value: str = "") -> dict[str, Characteristic]:
    return {name: unknown([(keyword, value)]) for name in ("slice_spacing_mm", "coverage_mm")}


def _positions(images: Sequence[Dataset]) -> Floats | None:
    positions = [numbers(image, _POSITION, 3) for image in images]
    placed = [position for position in positions if position is not None]
    return np.array(placed) if placed and len(placed) == len(images) else None


def _is_orientation(cosines: Floats) -> bool:
    return abs(float(np.linalg.norm(np.cross(cosines[:3], cosines[3:]))) - 1) <= ORIENTATION_TOLERANCE


def _basis(*keywords: str) -> list[tuple[str, str]]:
    return [(keyword, "of all images") for keyword in keywords]


def _range(values: Floats) -> str:
    return f"{written(float(values.min()))} to {written(float(values.max()))}"
