"""The patients of a data folder, in whichever of the two forms it has."""

from __future__ import annotations

from pathlib import Path

from pipelines.nnunet_data_set import is_data_set
from pipelines.tumor.training.data import Patient, load_patients
from pipelines.tumor.training.nnunet_patients import load_nnunet_patients


def patients_of(data: Path, split: str) -> list[Patient]:
    """Read the patients of a split: of a data set of nnU-Net v2, or of the sheets below ``data/lgg``.

    Raises ``DataSetError`` when the folder holds neither, ``FileNotFoundError`` when a file of it is missing.
    """
    return load_nnunet_patients(data, split) if is_data_set(data, "lgg/index.csv") else load_patients(data, split)
