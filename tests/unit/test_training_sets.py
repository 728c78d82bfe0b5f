"""Data sets of nnU-Net v2 as training data: orientation, grid and splits; and what a wrong folder is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pipelines.nnunet_data_set import DataSetError
from pipelines.tumor.training.data import TILE
from pipelines.tumor.training.metrics import dice
from pipelines.tumor.training.sets import patients_of
from pipelines.tumor.training.train import main

PIXEL_MM = 0.92


def head(at_row: int) -> tuple[np.ndarray, np.ndarray]:
    """A head ``[slice, row, column]`` on the grid of the sheets, and its tumour, left of the middle."""
    rows, columns = np.mgrid[:TILE, :TILE]
    image = np.where(np.hypot(rows - 128, (columns - 128) * 1.2) < 90, 400.0, 0.0) * np.ones((6, 1, 1))
    mask = np.zeros(image.shape, bool)
    mask[2:4] = np.hypot(rows - at_row, columns - 100) < 15
    image[mask] = 900.0
    return image, mask


def write_set(folder: Path, *, channels: tuple[str, ...] = ("FLAIR",)) -> Path:
    """Two cases; the files' axes run to the left, posterior and to the head, as DICOM's do, with half the pixel."""
    affine = np.diag([-PIXEL_MM / 2, -PIXEL_MM / 2, 5.0, 1.0])
    for case, at_row in (("a", 100), ("b", 150)):
        for name, array in zip((f"imagesTr/{case}_0000", f"labelsTr/{case}"), head(at_row), strict=True):
            fine = np.asarray(array, np.float32).repeat(2, axis=1).repeat(2, axis=2).transpose(2, 1, 0)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(fine, affine), folder / f"{name}.nii.gz")
    described = {"channel_names": dict(enumerate(channels)), "labels": {"background": 0, "tumour": 1}}
    (folder / "dataset.json").write_text(json.dumps(described | {"numTraining": 2, "file_ending": ".nii.gz"}))
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    return folder


def test_cases_come_on_the_grid_and_in_the_orientation_of_the_network(tmp_path: Path):
    write_set(tmp_path)
    [learned], [held_out] = (patients_of(tmp_path, split) for split in ("train", "val"))
    assert (learned.name, held_out.name) == ("a", "b")
    for patient, at_row in ((learned, 100), (held_out, 150)):
        image, mask = head(at_row)
        assert patient.image.shape == image.shape
        assert dice(patient.mask, mask) > 0.97
        assert patient.normalised[0, 128, 128] == pytest.approx(1.0, abs=0.05)
        assert patient.normalised[mask & patient.mask].mean() == pytest.approx(900 / 400, abs=0.1)


def test_an_empty_or_wrong_folder_is_told_what_it_lacks(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        main()
    assert "holds neither dataset.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    folder = write_set(tmp_path / "set", channels=("T1", "T2"))
    with pytest.raises(DataSetError, match="no channel FLAIR among T1, T2"):
        patients_of(folder, "train")
    with pytest.raises(DataSetError, match="has no split 'test'"):
        patients_of(folder, "test")
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["c"]}]))
    with pytest.raises(DataSetError, match="names c, of which labelsTr has no map"):
        patients_of(folder, "train")
    (folder / "splits_final.json").unlink()
    with pytest.raises(DataSetError, match=r"splits_final.json is missing"):
        patients_of(folder, "train")
    for path in (folder / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(DataSetError, match="the data set is empty"):
        patients_of(folder, "train")
