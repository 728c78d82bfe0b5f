"""Grid of a series: slice order, regular spacing, images that were left out, or why there is no grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.studies.frame_of_reference import (
    advice,
    assumption,
    differs_in_every_image,
    may_be_shared,
    without_frame_of_reference,
)
from node.studies.left_out import (
    lacking_text,
    left_out_text,
    part_text,
    repeated_text,
    several_volumes_text,
    too_small_text,
)
from node.studies.slice_steps import STEP_TOLERANCE, irregularity, slices_of_images
from node.translation import joined, sentence

Floats = NDArray[np.float64]

POSITION_TOLERANCE_MM = 0.01
"""Slices nearer than this along the normal are at the same position."""
SHEAR_LIMIT = 0.7
"""Largest in-plane shift per step, as a fraction of the step: gantries tilt up to 30 degrees."""
ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within a series."""
LEAST_PART = 0.5
"""The regular part of a series must hold more than this fraction of its images: less would pass for the whole."""
_LACKING = "geometry"
_GEOMETRY = (("ImageOrientationPatient", 6), ("ImagePositionPatient", 3), ("PixelSpacing", 2))
_SAME = ("Rows", "Columns", "FrameOfReferenceUID")
_NEAR = {"ImageOrientationPatient": ORIENTATION_TOLERANCE, "PixelSpacing": POSITION_TOLERANCE_MM}
"""With the largest difference within a grid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """How the images of one series lie in space."""

    order: tuple[int, ...]
    """Indices of the given datasets that form the grid, sorted along the slice normal. All of them, by Instance
    Number, when there is none."""
    affine: Floats | None
    """4 x 4, ``(slice, row, column, 1)`` to LPS mm; ``None`` when ``fault`` says why there is none."""
    fault: str
    """Why the images are no regular grid, in words for a radiologist; empty when they, or most of them, are one."""
    left_out: str = ""
    """Which images are not part of the grid, and why, in words for a radiologist."""
    assumption: str = ""
    """What the headers do not say and was taken for granted, in words for a radiologist."""
    gap: bool = False
    """Steps are whole multiples of the usual one: images are missing in between."""
    offsets: tuple[tuple[int, int], ...] = ()
    """With a tilted gantry: (row, column) of the grid at which each image begins. Whole pixels, so that no value is
    interpolated and every pixel comes back to its image; no image is off by more than half a pixel."""

    slices: tuple[int, ...] = ()
    """Slice of the grid on which each image lies, when some have none (``slice_steps``). Empty: one by one."""

    def spread(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the grid for images of this size."""
        if not self.offsets:
            return rows, columns
        down, right = (max(values) for values in zip(*self.offsets, strict=True))
        return rows + down, columns + right


def slice_normal(dataset: Dataset) -> Floats:
    """Unit normal of an image plane, LPS (PS3.3 C.7.6.2.1.1)."""
    cosines = np.asarray(dataset.ImageOrientationPatient, dtype=float)
    return np.cross(cosines[:3], cosines[3:])


def plane_name(cosines: Sequence[float]) -> str:
    """``axial``, ``coronal``, ``sagittal``, or ``oblique`` when the normal is over 45 degrees from every axis."""
    normal = np.abs(np.cross(np.asarray(cosines[:3], float), np.asarray(cosines[3:], float)))
    axis = int(normal.argmax())
    return ("sagittal", "coronal", "axial")[axis] if normal[axis] > np.sqrt(0.5) else "oblique"


def describe(datasets: Sequence[Dataset]) -> Grid:
    """Find the grid of the images ``[slice, row, column]`` of one series; pixel data is not needed.

    ``datasets``: single images, or frames as ``split_frames`` gives them. When not all of them form one regular grid,
    the largest part that does is taken, if it is most of them.
    """
    images = [dataset for dataset in datasets if "Rows" in dataset]
    if not differs_in_every_image(images):
        return _describe(datasets)
    grid = _describe([without_frame_of_reference(dataset) if "Rows" in dataset else dataset for dataset in datasets])
    if grid.affine is not None and not grid.left_out and may_be_shared(images):
        return replace(grid, assumption=assumption(len(images)))
    reasons = (grid.fault or grid.left_out, advice(len(images)))
    return unplaced(datasets, joined(filter(None, reasons), "; "), gap=grid.gap)


def _describe(datasets: Sequence[Dataset]) -> Grid:
    if any("PerFrameFunctionalGroupsSequence" in d or _integer(d, "NumberOfFrames") != 1 for d in datasets):
        return unplaced(datasets, sentence("multi-frame images without a position for every frame"))
    images = [i for i in range(len(datasets)) if "Rows" in datasets[i]]
    if not images:
        return unplaced(datasets, sentence("the series holds no images"))
    alike, difference = _alike(datasets, images)
    fault = _plane_fault(datasets[alike[0]])
    if len(alike) <= LEAST_PART * len(images):
        fault = difference
    if fault:
        return unplaced(datasets, fault)
    left_out: list[str] = [left_out_text(len(images) - len(alike), difference)] if difference else []
    return _stack(datasets, alike, left_out)


def _alike(datasets: Sequence[Dataset], images: Sequence[int]) -> tuple[list[int], str]:
    """The largest set of images of one size, spacing and orientation, and how the others differ."""
    planes = {index: _Plane.of(datasets[index]) for index in images}
    clusters: list[list[int]] = []
    for index in images:
        for cluster in clusters:
            if not _difference(planes[cluster[0]], planes[index]):
                cluster.append(index)
                break
        else:
            clusters.append([index])
    largest = max(clusters, key=len)
    others = [c[0] for c in clusters if c is not largest]
    if lacking := [planes[i].lacking for i in images if planes[i].lacking]:
        return largest, lacking_text(lacking[0], len(lacking), len(images))
    keyword = _difference(planes[largest[0]], planes[others[0]]) if others else ""
    if keyword == _LACKING:
        return largest, sentence("geometry is missing")
    return largest, sentence("{keyword} differs within the series", keyword=keyword) if keyword else ""


class _Plane(NamedTuple):
    """What must be alike in the images of one grid, read once of each."""

    lacking: str
    """The first attribute of the geometry that cannot be used."""
    same: tuple[Any, ...] = ()
    near: tuple[Floats, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset) -> _Plane:
        values = {keyword: numbers(dataset, keyword, count) for keyword, count in _GEOMETRY}
        known = {keyword: of for keyword, of in values.items() if of is not None}
        if lacking := next((keyword for keyword in values if keyword not in known), ""):
            return cls(lacking)
        return cls("", tuple(dataset.get(keyword) for keyword in _SAME), tuple(known[keyword] for keyword in _NEAR))


def _difference(plane: _Plane, other: _Plane) -> str:
    """The attribute by which two images differ, ``_LACKING`` where one of them has no geometry; empty: none."""
    if plane.lacking or other.lacking:
        return "" if plane.lacking == other.lacking else _LACKING
    same = zip(_SAME, plane.same, other.same, strict=True)
    near = zip(_NEAR.items(), plane.near, other.near, strict=True)
    return next((keyword for keyword, ours, theirs in same if ours != theirs), "") or next(
        (keyword for (keyword, most), ours, theirs in near if np.abs(ours - theirs).max() > most), ""
    )


def _plane_fault(dataset: Dataset) -> str:
    if lacking := _Plane.of(dataset).lacking:
        return sentence("{keyword} is missing or unusable in all images", keyword=lacking)
    if min(float(v) for v in dataset.PixelSpacing) <= 0:
        return sentence("PixelSpacing is not positive")
    if abs(np.linalg.norm(slice_normal(dataset)) - 1) > ORIENTATION_TOLERANCE:
        return sentence("ImageOrientationPatient does not hold two perpendicular unit vectors")
    return ""


def _stack(datasets: Sequence[Dataset], alike: Sequence[int], left_out: list[str]) -> Grid:
    normal = slice_normal(datasets[alike[0]])
    positions = {i: np.asarray([float(v) for v in datasets[i].ImagePositionPatient]) for i in alike}
    by_height = sorted(alike, key=lambda i: (float(positions[i] @ normal), _integer(datasets[i], "InstanceNumber"), i))
    places: list[list[int]] = []  # the images at each position
    for index in by_height:
        if places and (positions[index] - positions[places[-1][0]]) @ normal < POSITION_TOLERANCE_MM:
            places[-1].append(index)
        else:
            places.append([index])
    several = sum(len(place) > 1 for place in places)
    if several > LEAST_PART * len(places):
        return unplaced(datasets, several_volumes_text(several, len(places), max(map(len, places))))
    if several:
        left_out.append(repeated_text(several))
    chosen = [place[-1] for place in places]
    placed = np.array([positions[i] for i in chosen])
    steps = np.diff(placed @ normal)
    first, last = _longest_run(np.diff(placed, axis=0), steps)
    words, gap = irregularity(steps)
    slices, bridged = slices_of_images(steps, np.diff(placed, axis=0))
    if slices:
        return _regular(datasets, chosen, placed, [*left_out, bridged], gap=gap, slices=slices)
    if last - first + 1 < len(chosen):
        words = words or sentence("the slices are shifted against each other")
        if last - first + 1 <= LEAST_PART * len(alike):
            return unplaced(datasets, too_small_text(words, last - first + 1, len(alike)), gap=gap)
        left_out.append(part_text(words, last - first + 1, len(alike)))
    chosen, placed = chosen[first : last + 1], placed[first : last + 1]
    return _regular(datasets, chosen, placed, left_out, gap=gap)


def _longest_run(vectors: Floats, steps: Floats) -> tuple[int, int]:
    """First and last of the most slices in a row with one step between them, in length and in direction."""
    usual = np.median(vectors, axis=0) if len(vectors) else vectors
    if (np.linalg.norm(vectors - usual, axis=-1) <= STEP_TOLERANCE * np.linalg.norm(usual)).all():
        return 0, len(vectors)
    best, start = (0, 0), 0
    while start < len(steps):
        limit = STEP_TOLERANCE * steps[start]
        end = start + 1
        while end < len(steps) and np.linalg.norm(vectors[end] - vectors[start]) <= limit:
            end += 1
        if end - start > best[1] - best[0]:
            best = (start, end)
        start = end
    return best


def _regular(
    datasets: Sequence[Dataset],
    chosen: Sequence[int],
    placed: Floats,
    left_out: Sequence[str],
    *,
    gap: bool,
    slices: tuple[int, ...] = (),
) -> Grid:
    first = datasets[chosen[0]]
    normal = slice_normal(first)
    cosines = np.asarray([float(v) for v in first.ImageOrientationPatient])
    row_spacing, column_spacing = (float(v) for v in first.PixelSpacing)
    last = slices[-1] if slices else len(chosen) - 1
    step = float((placed[-1] - placed[0]) @ normal) / last if last else _single_step(first)
    shift = (placed - placed[0]) @ np.stack([cosines[3:], cosines[:3]], axis=1)  # mm along rows and columns
    if len(chosen) > 1 and np.abs(shift[-1]).max() > SHEAR_LIMIT * step * last:
        return unplaced(
            datasets, sentence("the slices are shifted against each other by more than a tilted gantry does")
        )
    pixels = np.rint(shift / [row_spacing, column_spacing]).astype(int)
    pixels -= pixels.min(axis=0)
    affine = np.eye(4)
    affine[:3, 0] = normal * step
    affine[:3, 1] = cosines[3:] * row_spacing
    affine[:3, 2] = cosines[:3] * column_spacing
    affine[:3, 3] = placed[0] - affine[:3, 1:3] @ pixels[0]
    return Grid(
        order=tuple(chosen),
        affine=affine,
        fault="",
        left_out=joined(left_out, "; "),
        gap=gap,
        slices=slices,
        offsets=tuple((int(r), int(c)) for r, c in pixels) if pixels.any() else (),
    )


def _single_step(dataset: Dataset) -> float:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = numbers(dataset, keyword, 1)
        if value is not None and value[0] > 0:
            return float(value[0])
    return 1.0


def numbers(dataset: Dataset, keyword: str, count: int) -> Floats | None:
    """The finite values of an attribute with this many; ``None`` when it has another number of them."""
    try:
        value: Any = dataset.get(keyword)
        values = np.atleast_1d(np.asarray(value, dtype=float))
    except (ArithmeticError, TypeError, ValueError):
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def _integer(dataset: Dataset, keyword: str) -> int:
    """An integer that scanners may leave out (1 then) or spoil (0 then)."""
    if keyword not in dataset:
        return 1
    number = numbers(dataset, keyword, 1)
    return 0 if number is None else int(number[0])


def unplaced(datasets: Sequence[Dataset], fault: str, *, gap: bool = False) -> Grid:
    """All images by Instance Number, and why they are no grid."""
    order = sorted(range(len(datasets)), key=lambda i: (_integer(datasets[i], "InstanceNumber"), i))
    return Grid(order=tuple(order), affine=None, fault=fault, gap=gap)
