"""The patients of a data folder, in whichever of the two forms it has."""

from __future__ import annotations

from pathlib import Path

from pipelines.nnunet_data_set import DESCRIPTION, DataSetError
from pipelines.tumor.training.data import Patient, load_patients
from pipelines.tumor.training.nnunet_patients import load_nnunet_patients


def patients_of(data: Path, split: str) -> list[Patient]:
    """Read the patients of a split: of a data set of nnU-Net v2, or of the sheets below ``data/lgg``.

    Raises ``DataSetError`` when the folder holds neither, ``FileNotFoundError`` when a file of it is missing.
    """
    if (data / DESCRIPTION).is_file():
        return load_nnunet_patients(data, split)
    if (data / "lgg" / "index.csv").is_file():
        return load_patients(data, split)
    raise DataSetError(
        f"{data} holds neither {DESCRIPTION} (a data set of nnU-Net v2, as `ainode export` writes) nor lgg/index.csv; "
        "give the folder of a data set"
    )
