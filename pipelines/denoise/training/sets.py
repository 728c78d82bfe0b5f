"""Samples of a data folder, in whichever of the two forms it has; of a data set of nnU-Net v2 only the images count."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.denoise.training.data import CEILING_HU, FLOOR_HU, FloatArray, Sample, level_of, samples
from pipelines.denoise.training.patches import MARGIN, SIZE
from pipelines.nnunet_data_set import DataSetError, NnunetDataSet, axial_stack, is_data_set, read_data_set

SLICES = {"train": 80, "val": 9}
"""Of all cases of a data set together, at least one of each: as many as the packaged weights have seen."""
EDGE = 2 * (SIZE + 2 * MARGIN)
"""Pixels along each side of a slice at least: what ``make_patch`` cuts out."""


def samples_of(data: Path, split: str) -> list[Sample]:
    """Read the samples of a split: of a data set of nnU-Net v2 with the channel CT, or of ``data.samples``.

    Raises ``DataSetError`` when the folder holds neither or cannot be trained on, ``FileNotFoundError`` when a file of
    it is missing.
    """
    if not is_data_set(data, "ct_slices/index.csv"):
        return samples(data, split)
    data_set = read_data_set(data, maps=False)
    if split not in data_set.splits:
        raise DataSetError(f"{data} has no split {split!r}; a data set of nnU-Net has train and val")
    return [sample for case in data_set.splits[split] for sample in _samples(data_set, case, split)]


def _samples(data_set: NnunetDataSet, case: str, split: str) -> list[Sample]:
    image = data_set.image(case, data_set.channel("CT"))
    values = axial_stack(image)
    columns_mm, rows_mm = (float(mm) for mm in image.header.get_zooms()[:2])
    slices, rows, columns = values.shape
    of = f"case {case} of {data_set.folder}"
    if values.min() > -500:
        raise DataSetError(f"{of} shows no air in HU; this network is trained on CT")
    if rows != columns or rows < EDGE or slices < 3 or abs(columns_mm / rows_mm - 1) > 0.01:
        raise DataSetError(
            f"{of} has {slices} axial slices of {rows} x {columns} pixels of {rows_mm:g} x {columns_mm:g} mm; "
            f"noise is simulated on three slices and more, square, with square pixels, {EDGE} or more along a side"
        )
    hu: FloatArray = np.clip(values, FLOOR_HU, CEILING_HU)
    number = min(-(-SLICES[split] // len(data_set.splits[split])), slices - 2)
    picked = sorted({round(float(k)) for k in np.linspace(1, slices - 2, number)})
    samples = [Sample(f"{case}/{k}", "", hu[k - 1 : k + 2].copy(), columns_mm) for k in picked if level_of(hu[k]) > 0]
    if not samples:
        raise DataSetError(f"{of} shows no flat soft tissue to measure noise in; leave it out of splits_final.json")
    return samples
