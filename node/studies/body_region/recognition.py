"""The body region of a CT series, from the pixels of a dozen of its slices. It reads strangers' files and decodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut

from node.confined import bounded
from node.errors import InputError
from node.pipeline import Unsuitable
from node.studies.attribute_values import values_of
from node.studies.body_region.network import Floats, class_probabilities
from node.studies.body_region.slice_image import scaled
from node.studies.body_region.verdict import regions_of_slices
from node.studies.characteristics.characteristic import Characteristic, unknown
from node.studies.characteristics.image_kind import is_slice
from node.studies.frames import split_frames
from node.studies.grid import numbers
from node.studies.header import read_header
from node.studies.pixel_data import read_pixels
from node.studies.pydicom_errors import UNREADABLE

T = TypeVar("T")

SLICES = 12
"""Looked at, evenly spaced along the series."""
_HEADERS = 400
"""Files of which headers are read, evenly spaced in the order of arrival, so that a series of 20,000 costs no more."""
_FILE_SECONDS = 3.0
"""Of computing for one header, or for one image."""
_AXIAL = 0.85
"""Least cosine between the normal of a slice and the axis of the body: a gantry is tilted by 30 degrees at most."""
_LONGEST = 200


def body_region_of(paths: Sequence[Path]) -> Characteristic:
    """Return which regions of the body the axial CT slices in these files show.

    *Unknown*, with the reason as its basis, when there are none, when their scale is not stated, and when most of the
    slices cannot be decoded. Raises nothing for damaged files.
    """
    frames = [frame for path in _thinned(paths, _HEADERS) for frame in _axial_frames(path)]
    if not frames:
        return unknown([("axial CT slices", "")])
    heights = [_height(header) for _, header in frames]
    placed = all(height is not None for height in heights)
    order = sorted(range(len(frames)), key=lambda at: -(heights[at] or 0.0)) if placed else range(len(frames))
    slices, places, faults = [], [], []
    chosen = _thinned(list(order), SLICES)
    for at in chosen:
        path, header = frames[at]
        try:
            with bounded(path.name, _FILE_SECONDS):
                slices.append(_slice(path, header))
            places.append(heights[at])
        except (InputError, Unsuitable, ValueError, *UNREADABLE) as error:
            faults.append(str(error)[:_LONGEST] or type(error).__name__)
    if len(faults) * 2 > len(chosen):
        return unknown([("pixels", faults[0])])
    return regions_of_slices(
        class_probabilities(np.stack(slices)),
        [height for height in places if height is not None] if placed else None,
        sorted({value for _, header in frames for value in values_of(header, "BodyPartExamined") if value}),
    )


def _thinned(values: Sequence[T], most: int) -> list[T]:
    """Return at most this many, evenly spaced, from the middle of equal parts."""
    if len(values) <= most:
        return list(values)
    return [values[int((at + 0.5) * len(values) / most)] for at in range(most)]


def _axial_frames(path: Path) -> list[tuple[Path, Dataset]]:
    try:
        with bounded(path.name, _FILE_SECONDS):
            frames = split_frames(read_header(path))
            return [(path, frame) for frame in _thinned(frames, _HEADERS) if _is_axial(frame)]
    except (InputError, *UNREADABLE):
        return []


def _is_axial(header: Dataset) -> bool:
    if header.get("Modality") != "CT" or "Rows" not in header or not is_slice(header):
        return False
    cosines = numbers(header, "ImageOrientationPatient", 6)
    return cosines is None or abs(float(np.cross(cosines[:3], cosines[3:])[2])) >= _AXIAL


def _height(header: Dataset) -> float | None:
    """Return the position along the body, mm towards the head (LPS z)."""
    position = numbers(header, "ImagePositionPatient", 3)
    return None if position is None else float(position[2])


def _slice(path: Path, header: Dataset) -> Floats:
    spacing = numbers(header, "PixelSpacing", 2)
    if spacing is None:
        raise InputError("PixelSpacing is absent, so the scale is not known")
    values = next(iter(read_pixels(path, [header], _hounsfield)))
    cosines = numbers(header, "ImageOrientationPatient", 6)
    if cosines is not None:  # left to the right and anterior at the top, as scanners show a patient on the back
        values = values[:: -1 if cosines[4] < 0 else 1, :: -1 if cosines[0] < 0 else 1]
    return scaled(values, (float(spacing[0]), float(spacing[1])))


def _hounsfield(stored: NDArray[Any], header: Dataset) -> Floats:
    return np.asarray(apply_modality_lut(stored, header), dtype=np.float32)
