"""Fine-tuning of the nodule networks with cases that readers have verified."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from scipy import ndimage

from pipelines.nnunet_data_set import read_data_set
from pipelines.nodule.pipeline import WEIGHTS
from pipelines.nodule.search import Networks, part_of
from pipelines.nodule.training import fine_tuning
from pipelines.nodule.training.train import main
from pipelines.nodule.training.verified_cases import mistakes, read_cases, stacks_of
from pipelines.weights import load_weights

SPACING = (2.5, 1.5, 1.5)
MARKED, REJECTED = (26, 95, 62), (22, 110, 180)
"""Slice, row, column of a nodule that readers confirmed, and of one that they rejected."""


pytestmark = pytest.mark.thorough


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius_mm: float) -> np.ndarray:
    grid = np.ogrid[tuple(map(slice, shape))]
    far = sum(((axis - c) * mm) ** 2 for axis, c, mm in zip(grid, centre, SPACING, strict=True))
    return np.asarray(far <= radius_mm**2)


def chest(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and map ``[slice, row, column]``: two lungs with a ball of soft tissue each, of which one is marked."""
    shape = (48, 200, 240)
    _, y, x = np.ogrid[tuple(map(slice, shape))]
    hu = np.full(shape, -1000.0)
    hu[np.broadcast_to(((y - 100) / 85) ** 2 + ((x - 120) / 110) ** 2 <= 1, shape)] = 40
    for column in (66, 174):
        hu[np.broadcast_to(((y - 100) / 55) ** 2 + ((x - column) / 38) ** 2 <= 1, shape)] = -860
    hu[ball(shape, MARKED, 6.0)] = 40
    hu[ball(shape, REJECTED, 6.0)] = 40
    hu = ndimage.gaussian_filter(hu, (0.3, 0.6, 0.6)) + np.random.default_rng(seed).normal(0, 15, shape)
    return hu.astype(np.float32), ball(shape, MARKED, 6.0).astype(np.uint8)


def data_set(folder: Path, *, lesions: bool = True, lungs: bool = True) -> Path:
    """Two patients as ``ainode export`` writes them, in LPS order as most CT are."""
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number in (1, 2):
        hu, marked = chest(number)
        hu, marked = hu if lungs else np.abs(hu), marked if lesions else np.zeros_like(marked)
        for name, values in ((f"imagesTr/case_{number}_0000", hu), (f"labelsTr/case_{number}", marked)):
            nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), folder / f"{name}.nii.gz")
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "Nodule": 1}, "numTraining": 2}
    (folder / "dataset.json").write_text(json.dumps({**described, "file_ending": ".nii.gz"}))
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["case_1"], "val": ["case_2"]}]))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_marked_lesions_are_nodules_and_what_else_is_proposed_is_none(tmp_path: Path):
    (case,) = read_cases(read_data_set(data_set(tmp_path / "set")), "train")
    assert case.spacing == pytest.approx(SPACING)
    (stack,) = stacks_of(case)
    assert stack.diameter_mm == pytest.approx(12.0, abs=0.6)
    rows, columns = np.argwhere(stack.readers.max(0) == 4).mean(0)
    assert (rows, columns) == (pytest.approx(63.5, abs=1.5), pytest.approx(63.5, abs=1.5))
    inside = stack.grey[stack.readers == 4]
    assert inside.mean() > 200, "the mask lies on the bright ball"
    examples = list(mistakes(Networks.of(load_weights(WEIGHTS).tensors, WEIGHTS, "cpu"), case))
    assert examples
    assert {(example.kind, example.nodule) for example in examples} == {("candidate", 0.0)}
    assert examples[0].planes[1, 44:52, 44:52].mean() > 180, "the ball that readers rejected comes first"


def test_weights_are_tuned_where_verified_cases_say_something_and_kept_elsewhere(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fine_tuning, "STEPS", 3)
    monkeypatch.setattr(fine_tuning, "VALIDATION_BATCHES", 1)
    data, out = data_set(tmp_path / "set"), tmp_path / "out"
    done = run("--data", data, "--out", out, "--begin-with", WEIGHTS, "--rate", "0.02")
    assert done.exit_code == 0, done.output
    assert "train 1 of 1: case_1, 1 lesions" in done.output
    before, after = load_weights(WEIGHTS).tensors, load_weights(out / "weights.safetensors").tensors
    assert before.keys() == after.keys()
    for name in ("candidate", "weighing"):
        same = part_of(before, name)
        assert all(torch.equal(value, same[key]) for key, value in part_of(after, name).items()), name
    Networks.of(after, out, "cpu")


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("nothing", "holds neither dataset.json"),
        ("no weights", "give --begin-with"),
        ("no splits", "splits_final.json is missing"),
        ("no lesion", "no case of train"),
        ("no lungs", "shows no lungs in HU"),
        ("detector", "is not trained on verified cases"),
    ],
)
def test_a_folder_that_cannot_be_trained_on_is_refused_with_what_is_missing(
    tmp_path: Path, monkeypatch, what: str, why: str
):
    monkeypatch.setattr(fine_tuning, "mistakes", lambda *_: [])
    folder = tmp_path / "set"
    if what == "nothing":
        folder.mkdir()
    else:
        data_set(folder, lesions=what != "no lesion", lungs=what != "no lungs")
    if what == "no splits":
        (folder / "splits_final.json").unlink()
    weights = () if what == "no weights" else ("--begin-with", WEIGHTS)
    part = ("--part", "candidate") if what == "detector" else ()
    done = run("--data", folder, "--out", tmp_path / "out", *weights, *part)
    assert done.exit_code == 2
    assert why in done.output.replace("\n", " ")
    assert not (tmp_path / "out" / "weights.safetensors").exists()
