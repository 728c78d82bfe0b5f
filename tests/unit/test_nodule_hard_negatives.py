"""The nodule classifier's hard negatives: mined spots, inserted lookalikes, and the mean of two sets of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from pipelines.nodule.crops import CROP
from pipelines.nodule.network import ClassifierNet
from pipelines.nodule.training.classifier_examples import CUT, Example, classifier_batches
from pipelines.nodule.training.hard_negatives import HARD_SHARES, alike, from_crops, scores
from pipelines.nodule.training.insertion import Shape
from pipelines.nodule.training.lookalikes import bulge, from_lookalikes, hilar_vessel, wall_normal
from pipelines.nodule.training.patches import Stack
from pipelines.nodule.training.scans import Background
from pipelines.nodule.training.train import main, mean_of

SPOT = (40.0, 88.0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Always(ClassifierNet):
    """Says the same of everything."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x: Tensor) -> Tensor:
        return self.logit.expand(len(x), 2)


def crop(*, marked: bool = True, seed: int = 0) -> Stack:
    """A nodule in the middle and another spot beside it, which the crop does not mark; ``marked``: the middle is."""
    rng = np.random.default_rng(seed)
    away = [np.hypot(*(np.indices((CROP, CROP)) - np.reshape(at, (2, 1, 1)))) for at in ((63.5, 63.5), SPOT)]
    grey = np.where((away[0] < 5) | (away[1] < 5), 200, 30).astype(np.uint8)
    grey = (grey + rng.integers(0, 4, grey.shape)).astype(np.uint8)
    readers = np.where(away[0 if marked else 1] < 5, 4, 0).astype(np.uint8)
    return Stack(
        grey=grey[None].repeat(5, 0),
        readers=readers[None].repeat(5, 0),
        raters=4,
        pixel_mm=0.7,
        slice_mm=2.5,
        diameter_mm=7.0,
        malignancy=0,
        patient="a",
    )


def test_a_spot_that_the_network_takes_for_a_nodule_is_a_hard_negative() -> None:
    rng = np.random.default_rng(0)
    examples = list(from_crops(rng, Always(3.0), [crop()]))
    assert {e.kind for e in examples} == {"hard"}
    assert all(e.nodule == 0 for e in examples)
    assert any(e.planes[1, 44:52, 44:52].mean() > 150 for e in examples), "the unmarked spot is in the middle of one"


def test_a_spot_that_is_another_nodule_of_the_patient_is_no_negative() -> None:
    both = [crop(), crop(marked=False)]
    examples = list(from_crops(np.random.default_rng(0), Always(3.0), both))
    apart = list(from_crops(np.random.default_rng(0), Always(3.0), [both[0], replace(both[1], patient="b")]))
    assert len(examples) < len(apart)
    assert not any(e.planes[1, 44:52, 44:52].mean() > 150 for e in examples)


@pytest.mark.thorough
def test_of_easy_spots_few_are_kept() -> None:
    examples = list(from_crops(np.random.default_rng(0), Always(-5.0), [crop(seed=k) for k in range(40)]))
    assert {e.kind for e in examples} <= {"easy"}
    assert len(examples) < 40


def test_scores_are_chances_and_none_is_fine() -> None:
    planes = np.zeros((3, 96, 96), np.uint8)
    example = Example(planes=planes, kind="beside", nodule=0.0, malignancy=0.0)
    assert scores(Always(0.0), [example, example]).tolist() == [0.5, 0.5]
    assert len(scores(Always(0.0), [])) == 0


def test_a_shifted_view_is_alike_and_another_is_not() -> None:
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(44, 44)).astype(np.float32)
    assert alike(wide[:40, :40], wide[2:42, 2:42]) > 0.99
    assert alike(wide[:40, :40], rng.normal(size=(40, 40)).astype(np.float32)) < 0.5


def test_a_bulge_is_flat_along_the_normal_of_the_wall() -> None:
    shape = bulge(np.random.default_rng(0), np.array([0.0, 1.0, 0.0]))
    inside = np.argwhere(shape.cover > 0.5)
    deep, wide = np.ptp(inside[:, 1]), np.ptp(inside[:, 2])
    assert wide > 1.5 * deep
    assert shape.diameter_mm == 0, "it is no nodule"


def test_a_hilar_vessel_is_long() -> None:
    shape: Shape = hilar_vessel(np.random.default_rng(0))
    inside = np.argwhere(shape.cover > 0.5)
    spread = np.linalg.eigvalsh(np.cov(inside.T))
    assert spread[-1] > 2 * spread[0]
    assert shape.diameter_mm == 0


def test_the_normal_points_from_air_to_tissue() -> None:
    plane = np.full((CUT + 1, CUT + 1), -850, np.float32)
    assert wall_normal(plane) is None
    plane[CUT // 2 :] = 40
    assert wall_normal(plane) == pytest.approx([0, 1, 0])


def test_lookalikes_of_a_scan_are_negatives_of_both_kinds() -> None:
    hu = np.full((20, 120, 120), -850, np.float32)
    hu[:, :30] = 40
    places = np.array([[10, 32, 60]], np.int32)
    ground = Background(
        hu=hu.copy(), ignored=np.zeros(hu.shape, bool), places=places, near_wall=places, near_vessel=places, step_mm=2.5
    )
    examples = list(from_lookalikes(np.random.default_rng(0), ground, 6))
    assert [e.kind for e in examples] == ["bulge", "hilar"] * 3
    assert all(e.nodule == 0 for e in examples)
    assert np.array_equal(ground.hu, hu), "the scan itself stays as it is"
    views, nodule, _ = next(classifier_batches(0, examples, 4, HARD_SHARES))
    assert views.shape == (4, 3, 64, 64)
    assert not nodule.any()


def test_the_mean_of_two_sets_of_weights_leaves_counters_alone() -> None:
    start, value = torch.tensor([0.0, 4.0]), torch.tensor([2.0, 2.0])
    assert mean_of(start, value, 0.5).tolist() == [1.0, 3.0]
    assert mean_of(None, value, 0.5) is value
    counter = torch.tensor(3)
    assert mean_of(torch.tensor(9), counter, 0.5) is counter


def test_hard_negatives_need_weights_whose_mistakes_they_are(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--part", "classifier", "--hard-negatives"]
    )
    assert result.exit_code == 2
    assert "--begin-with" in result.output
