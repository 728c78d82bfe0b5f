"""Depth below the surface of a body in CT or MR, without a model of its anatomy or its pose; pure.

The surface is where air ends that reaches the border of the volume. The smooth surface lacks what a ball of
``_BALL_MM`` does not enter or leave: it has neither nose, ears, lips nor chin, and no eye sockets.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.errors import GateError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

BELOW_SMOOTH_MM = 10.0
"""Least depth below the smooth surface of what is kept."""
BELOW_SURFACE_MM = 8.0
"""Least depth below the surface itself."""
_BALL_MM = 30.0
"""Radius."""
_FEATURE_MM = 15.0
"""Half of the width of a nose, an ear or a chin, and more."""
_CUT_MM = 40.0
"""Radius of the disk that fits into a cross-section of head, neck or trunk."""
_SHEET_MM = 3.5
"""Half of the thickness up to which sheets are no body: masks, tubes, holders."""
_PASSAGE_MM = 5.0
"""Half of the narrowest passage through which air is outside: wider than nostrils, ear canals and gaps of folds."""
_SKULL_MM = 6.0
"""Half of the widest dark gap in MR that is filled: bone between skin and brain."""
_TISSUE_HU = -250.0
"""Above fat by its noise and by partial volume: what is no body for certain adds nothing to the depth."""
_AIR_HU = -600.0
"""Most that the median of the air can be."""
_PART_OF_TISSUE = 0.33
"""Of the median of bright tissue in MR: noise and ghosts of motion are darker."""
_SIGMAS, _BINS = 4.0, 64
"""Least brightness of tissue above the most frequent dark value, which is noise; bins of the dark values."""
_LEAST_ML = 1.0
"""Smaller pieces are noise."""
_RIM_MM = 8.0
"""Depth of what is looked at below the surface of MR."""
_DIM, _MOST_DIM = 0.5, 0.25
"""Of the brightness of tissue, and of the surface."""
_LEAST_AIR = 0.02
"""Part of the volume that must be air around the body."""
_MOST_BRIGHT = 0.05
"""Part of that air that may be as bright as tissue."""
_HOLE_MM, _MOST_HOLE_ML = 30.0, 10.0
"""Depth below the smooth surface, and volume, of what is no body in MR: deeper and more is brain as dark as air."""


def margin_below_surface(values: Floats, mm: float, *, is_ct: bool) -> Floats:
    """Return by how many mm each voxel is deeper than what is removed; 0 and less: removed.

    ``values``: HU, or the values of MR, ``[slice, row, column]`` with ``mm`` between voxels in every direction.
    Raises ``GateError`` when the surface cannot be told from them.
    """
    tissue = values > (_TISSUE_HU if is_ct else _threshold(values, _bright(values)))
    tissue = _without_specks(tissue, _LEAST_ML * 1000 / mm**3)
    solid = np.pad(tissue if is_ct else _closed(tissue, _SKULL_MM, mm), 1)  # a sheet ends where the volume ends
    solid = _opened(solid, _SHEET_MM, mm)[1:-1, 1:-1, 1:-1]
    outside = _outside(solid, mm)
    body = _largest(~outside)
    air = values[outside]
    if air.size < _LEAST_AIR * values.size or not body.any():
        raise GateError("no air is seen around the body, so its surface cannot be found")
    if is_ct and float(np.median(air)) > _AIR_HU:
        raise GateError("its air is not that of CT numbers, so its surface cannot be found")
    if not is_ct and float(tissue[outside].mean()) > _MOST_BRIGHT:
        raise GateError("what surrounds the body is as bright as the body, so its surface cannot be found")
    if not is_ct:
        _check_rim(values, body, mm)
        _check_edges(body, mm)
    beyond = ceil(_BALL_MM / mm)
    body = _continued(body, beyond, mm)
    smooth = _opened(_closed(_opened(body, _FEATURE_MM, mm), _BALL_MM, mm), _BALL_MM, mm)
    below_smooth = _depth(smooth, mm)
    if not is_ct and float((below_smooth[~body] > _HOLE_MM).sum()) * mm**3 > _MOST_HOLE_ML * 1000:
        raise GateError("air or dark tissue reaches deep into the body, so its surface cannot be found")
    depth = np.minimum(below_smooth - BELOW_SMOOTH_MM, _depth(body, mm) - BELOW_SURFACE_MM)
    return np.asarray(depth[(slice(beyond, -beyond),) * depth.ndim], np.float32)


def _continued(body: Bools, voxels: int, mm: float) -> Bools:
    """Add to the volume what lies beyond it: the body where the volume cuts through it, and air elsewhere.

    A nose or an ear that touches the edge is not cut: a disk of ``_CUT_MM`` does not fit into it.
    """
    for axis in range(body.ndim):
        ends = [np.repeat(np.expand_dims(_cut(body, axis, end, mm), axis), voxels, axis) for end in (0, -1)]
        body = np.concatenate([ends[0], body, ends[1]], axis)
    return body


def _cut(body: Bools, axis: int, end: int, mm: float) -> Bools:
    """Return where the volume cuts through the body: a disk of ``_CUT_MM`` fits there."""
    return _opened(np.pad(body.take(end, axis), 1), _CUT_MM, mm)[1:-1, 1:-1]


def _check_edges(body: Bools, mm: float) -> None:
    """Raise ``GateError`` when rows or columns are cut through at both ends, as by a bright ghost or wrap-around."""
    for axis in (1, 2):
        if _cut(body, axis, 0, mm).any() and _cut(body, axis, -1, mm).any():
            raise GateError("the body reaches two opposite edges of its images, so what lies on it may be folded over")


def _check_rim(values: Floats, body: Bools, mm: float) -> None:
    """Raise ``GateError`` when too much of what lies below the surface is as dim as a ghost."""
    depth = _depth(body, mm)
    rim = (body & (depth <= _RIM_MM)).astype(np.float32)
    around = ndimage.gaussian_filter(values * rim, _RIM_MM / mm) / ndimage.gaussian_filter(rim, _RIM_MM / mm).clip(1e-6)
    seen = around[body & (depth <= mm)]
    if seen.size and float(np.quantile(seen, _MOST_DIM)) < _DIM * _bright(values):
        raise GateError("much of what lies at its surface is as dim as a ghost, so its surface cannot be found")


def _bright(values: Floats) -> float:
    """Return the median of bright tissue in MR."""
    bright = values[values > _otsu(values)]
    return float(np.median(bright)) if bright.size else np.inf


def _threshold(values: Floats, bright: float) -> float:
    """Return what separates tissue from noise in MR."""
    limit = _otsu(values)
    dark = values[values <= limit]
    counts, edges = np.histogram(dark, _BINS)
    mode = float(edges[int(counts.argmax()) + 1])
    below = mode - dark[dark <= mode]
    noise = mode + _SIGMAS * float(np.sqrt(np.mean(below**2)))
    return max(_PART_OF_TISSUE * bright, min(noise, limit))


def _otsu(values: Floats) -> float:
    """Return the value that parts dark and bright with the least variance within both."""
    low, high = np.percentile(values, (0.5, 99.5))
    counts, edges = np.histogram(values, 256, (low, max(high, low + 1e-6)))
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[int(np.nanargmax(between))])


def _without_specks(mask: Bools, voxels: float) -> Bools:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= voxels)[labels])


def _outside(solid: Bools, mm: float) -> Bools:
    """Return the air that a ball of ``_PASSAGE_MM`` reaches from the border without touching ``solid``."""
    centres = _depth(~solid, mm) > _PASSAGE_MM
    labels, _ = ndimage.label(centres)
    border = np.zeros(solid.shape, np.bool_)
    for axis in range(solid.ndim):
        for end in (0, -1):  # an airway that the volume cuts through is enclosed by the body there
            border[(slice(None),) * axis + (end,)] |= ~ndimage.binary_fill_holes(solid.take(end, axis))
    reached = np.zeros(labels.max() + 1, np.bool_)
    reached[np.unique(labels[border])] = True
    reached[0] = False
    return _grown(reached[labels], _PASSAGE_MM, mm) & ~solid


def _largest(mask: Bools) -> Bools:
    labels, number = ndimage.label(mask)
    return labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()) if number else mask


def _depth(mask: Bools, mm: float) -> NDArray[np.float64]:
    """Distance in mm to where ``mask`` ends; what lies beyond the volume is as its border."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=mm)) - mm / 2


def _grown(mask: Bools, radius: float, mm: float) -> Bools:
    return mask | (_depth(~mask, mm) <= radius)


def _shrunk(mask: Bools, radius: float, mm: float) -> Bools:
    return _depth(mask, mm) > radius


def _closed(mask: Bools, radius: float, mm: float) -> Bools:
    return _shrunk(_grown(mask, radius, mm), radius, mm)


def _opened(mask: Bools, radius: float, mm: float) -> Bools:
    return _grown(_shrunk(mask, radius, mm), radius, mm)
