"""Data sets of nnU-Net v2 as training data: orientation, grid and splits; and what a wrong folder is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from pipelines.denoise.training.detectability import main as detectability
from pipelines.denoise.training.evaluate import main as evaluate_denoise
from pipelines.denoise.training.sets import EDGE, samples_of
from pipelines.denoise.training.train import main as train_denoise
from pipelines.nnunet_data_set import DataSetError
from pipelines.nodule.training.embedding import main as train_embedding
from pipelines.nodule.training.evaluate import main as evaluate_nodule
from pipelines.nodule.training.train import main as train_nodule
from pipelines.tumor.training.data import TILE
from pipelines.tumor.training.metrics import dice
from pipelines.tumor.training.sets import patients_of
from pipelines.tumor.training.train import main
from pipelines.weights import load_weights

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
    with pytest.raises(DataSetError, match="no channel FLAIR or MR among T1, T2; give such images"):
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


def replace_map(folder: Path, case: str, change: Callable[[np.ndarray], np.ndarray], move_mm: float = 0.0) -> None:
    path = folder / "labelsTr" / f"{case}.nii.gz"
    label = nibabel.load(path)
    affine = label.affine + np.pad([[move_mm]], ((0, 3), (3, 0)))
    nibabel.save(nibabel.Nifti1Image(change(label.get_fdata(dtype=np.float32)), affine), path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


def rewrite(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value))


DESCRIBED = {"labels": {"background": 0, "tumour": 1}, "file_ending": ".nii.gz"}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda f: rewrite(f, "dataset.json", DESCRIBED | {"channel_names": {"0": "T1"}}), "FLAIR or MR among T1"),
        (lambda f: rewrite(f, "dataset.json", DESCRIBED | {"channel_names": {"x": "FLAIR"}}), "has x: FLAIR"),
        (lambda f: rewrite(f, "splits_final.json", [{"train": 5, "val": "ab"}]), "no first fold with lists"),
        (lambda f: rewrite(f, "splits_final.json", [{"train": ["a", "b"], "val": ["b"]}]), "has b in train and in val"),
        (lambda f: (f / "imagesTr" / "a_0000.nii.gz").write_bytes(b"no gzip"), r"a_0000.nii.gz cannot be read"),
        (lambda f: cut(f / "labelsTr" / "a.nii.gz"), r"labelsTr/a.nii.gz cannot be read"),
        (lambda f: replace_map(f, "a", lambda m: m[..., None].repeat(2, -1)), "has 4 dimensions"),
        (lambda f: replace_map(f, "a", lambda m: m[:-2]), "its grid is not that of a_0000"),
        (lambda f: replace_map(f, "a", lambda m: m, move_mm=7.0), "its grid is not that of a_0000"),
        (lambda f: replace_map(f, "a", lambda m: m * 7), "holds the value 7, which is no label"),
        (lambda f: replace_map(f, "a", lambda m: m * 0.5), r"holds the value 0\.5, which is no label"),
        (lambda f: replace_map(f, "a", lambda m: m * 0), "no case of train .* has a lesion"),
    ],
)
def test_a_set_that_is_wrong_is_refused_with_the_file_and_what_is_wrong(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
):
    spoil(write_set(tmp_path))
    with pytest.raises(DataSetError, match=why):
        patients_of(tmp_path, "train")


def test_a_map_may_hold_regions_and_what_an_export_calls_mr_is_taken(tmp_path: Path):
    write_set(tmp_path)
    described = {"labels": {"background": 0, "whole": [1, 7]}, "file_ending": ".nii.gz", "channel_names": {"0": "MR"}}
    rewrite(tmp_path, "dataset.json", described)
    replace_map(tmp_path, "a", lambda m: m * 7)
    assert patients_of(tmp_path, "train")[0].mask.any()


def write_ct(folder: Path, *, edge: int = EDGE, air: float = -1000.0, channel: str = "CT") -> Path:
    """Two bodies of soft tissue, 12 slices each, without any map."""
    rows, columns = np.mgrid[:edge, :edge]
    body = np.hypot(rows - edge / 2, columns - edge / 2) < edge * 0.4
    (folder / "imagesTr").mkdir(parents=True)
    for number, case in enumerate("ab"):
        noise = np.random.default_rng(number).normal(0, 12, (12, edge, edge))
        hu = np.where(body, 40 + noise, air).astype(np.float32)
        image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-0.8, -0.8, 2.5, 1.0]))
        nibabel.save(image, folder / "imagesTr" / f"{case}_0000.nii.gz")
    rewrite(folder, "dataset.json", {"channel_names": {"0": channel}, "labels": {}, "file_ending": ".nii.gz"})
    rewrite(folder, "splits_final.json", [{"train": ["a"], "val": ["b"]}])
    return folder


@pytest.mark.thorough
def test_the_denoiser_learns_from_images_of_a_set_and_needs_no_maps(tmp_path: Path, monkeypatch, capsys):
    folder, out = write_ct(tmp_path / "set"), tmp_path / "out"
    learned, held_out = samples_of(folder, "train"), samples_of(folder, "val")
    assert [sample.name for sample in learned] == [f"a/{k}" for k in range(1, 11)]
    assert {sample.name[0] for sample in held_out} == {"b"}
    assert learned[0].spacing_mm == pytest.approx(0.8)
    assert not learned[0].single
    monkeypatch.setattr("pipelines.denoise.training.sets.SLICES", {"train": 1, "val": 1})
    monkeypatch.setattr(sys, "argv", ["t", "--data", str(folder), "--out", str(out), "--minutes", "0.01"])
    train_denoise()
    assert load_weights(out / "weights.safetensors").tensors


@pytest.mark.parametrize(
    ("spoiled", "why"),
    [
        ({"edge": EDGE - 2}, "square, with square pixels"),
        ({"air": 0.0}, "shows no air in HU"),
        ({"channel": "PET"}, "no channel CT among PET"),
    ],
)
def test_what_the_denoiser_cannot_learn_from_is_refused(tmp_path: Path, spoiled: dict[str, Any], why: str):
    with pytest.raises(DataSetError, match=why):
        samples_of(write_ct(tmp_path / "set", **spoiled), "train")


def test_every_command_says_what_an_empty_folder_lacks_and_writes_nothing(tmp_path: Path, monkeypatch, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for command in (train_denoise, evaluate_denoise, detectability):
        taken = ["--data", str(data), *(["--out", str(out)] if command is train_denoise else [])]
        monkeypatch.setattr(sys, "argv", ["command", *taken])
        with pytest.raises(SystemExit, match="2"):
            command()
        assert "holds neither dataset.json" in capsys.readouterr().err
    for program, lack in (
        (train_nodule, "holds neither dataset.json"),
        (train_embedding, "lidc_patches/index.csv"),
        (evaluate_nodule, "holds no *.dcm; give the folder"),
    ):
        arguments = ["--data", str(data), *(["--out", str(out)] if program is not evaluate_nodule else [])]
        done = CliRunner().invoke(program, arguments)
        assert (done.exit_code, lack in done.output) == (2, True), done.output
    assert not out.exists()
