"""Patients from a data set in the form of nnU-Net v2, such as ``ainode export`` writes, on the grid of the sheets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.nnunet_data_set import DataSetError, NnunetDataSet, axial_stack, read_data_set
from pipelines.tumor.grid import NetworkGrid
from pipelines.tumor.prepare import BRIGHTEST, intensity_scale
from pipelines.tumor.training.data import TILE, Patient

_BRAIN = 255.0 / BRIGHTEST
"""Grey level of brain in 8 bits: what the network sees lies between 0 and 255 then."""


def load_nnunet_patients(folder: Path, split: str) -> list[Patient]:
    """Read the cases of ``split`` (train or val) of the channel FLAIR, or MR as `ainode export` calls it.

    Raises ``DataSetError`` when the set lacks something, ``FileNotFoundError`` when a file is missing.
    """
    data_set = read_data_set(folder)
    if split not in data_set.splits:
        raise DataSetError(f"{folder} has no split {split!r}; a data set of nnU-Net has train and val")
    channel = data_set.channel("FLAIR", "MR")
    patients = [_load(data_set, case, channel) for case in data_set.splits[split]]
    if not any(patient.mask.any() for patient in patients):
        raise DataSetError(f"no case of {split} in {folder} has a lesion; add cases")
    return patients


def _load(data_set: NnunetDataSet, case: str, channel: int) -> Patient:
    image, label = data_set.read(case, channel)
    values, marks = axial_stack(image), axial_stack(label) > 0
    columns, rows, slices = (float(mm) for mm in image.header.get_zooms()[:3])
    shape = values.shape[0], values.shape[1], values.shape[2]
    grid = NetworkGrid.of(shape, (slices, rows, columns))
    resampled = grid.forward(np.maximum(values, 0.0))
    try:
        scale = intensity_scale(resampled)
    except ValueError as error:
        raise DataSetError(f"case {case} of {data_set.folder}: {error}; this network is trained on heads") from error
    grey = np.clip(resampled / scale * _BRAIN, 0, 255).astype(np.uint8)
    return Patient(case, _tile(grey), _tile(grid.forward(marks.astype(np.float32)) > 0.5), _BRAIN)


def _tile(stack: NDArray[Any]) -> NDArray[Any]:
    """Cut or pad rows and columns to those of the sheets, about the middle."""
    for axis in (1, 2):
        size = stack.shape[axis]
        before = max(TILE - size, 0) // 2
        widths = [(0, 0)] * 3
        widths[axis] = (before, max(TILE - size, 0) - before)
        stack = np.pad(stack, widths)
        first = (stack.shape[axis] - TILE) // 2
        stack = stack.take(range(first, first + TILE), axis=axis)
    return stack
