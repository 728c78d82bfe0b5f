"""The nodule pipeline's training: examples for the outlines, the weighing, planted nodules, stopping and going on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipelines.nodule.candidates import Candidate
from pipelines.nodule.crops import CROP, PIXEL_MM, Window, nearness, stretched
from pipelines.nodule.options import Options
from pipelines.nodule.outline import outline
from pipelines.nodule.pipeline import NodulePipeline
from pipelines.nodule.training.figures import readers_agreement
from pipelines.nodule.training.froc import DetectionCount, quarter_dose
from pipelines.nodule.training.insertion import Shape, insert, spheroid
from pipelines.nodule.training.network_training import PATIENCE, Part, fit
from pipelines.nodule.training.outlines import agreed, distance_mm, outline_batches, outline_loss, pointed_at
from pipelines.nodule.training.patches import Stack, calibrated
from pipelines.nodule.training.planting import Lesion, Site, plant
from pipelines.nodule.training.scans import Background
from pipelines.nodule.weighing import Weighing, fit_weighing
from pipelines.worst_cases import draw_case


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def stack(votes: int = 4, raters: int = 4) -> Stack:
    """A bright disc of 10 pixels in the middle of a crop; ``votes`` of ``raters`` readers marked it."""
    away = np.hypot(*(np.indices((CROP, CROP)) - 63.5))
    grey = np.where(away < 5, 180, 40).astype(np.uint8)[None].repeat(5, 0)
    grey[:, :8] = 200
    readers = np.where(away < 5, votes, 0).astype(np.uint8)[None].repeat(5, 0)
    return Stack(grey=grey, readers=readers, raters=raters, pixel_mm=0.7, slice_mm=2.5, diameter_mm=7.0, malignancy=0)


def test_two_readers_decide_where_there_are_three_or_more() -> None:
    assert agreed(stack(2)).max() == 1
    assert agreed(stack(1)).max() == 0
    assert agreed(stack(1, raters=2)).max() == 0.5
    assert agreed(stack(1, raters=1)).max() == 1


def test_a_candidate_points_near_the_nodule_and_the_distance_is_in_millimetres() -> None:
    nodule = stack()
    rng = np.random.default_rng(0)
    off = np.array([pointed_at(rng, nodule) for _ in range(50)]) - [2, 63.5, 63.5]
    assert 0.5 < (off * [2.5, 0.7, 0.7]).std() < 2
    away = distance_mm(nodule, 4, np.array([2.0, 63.0, 53.0]))
    assert away[63, 63] == pytest.approx(np.hypot(2 * 2.5, 10 * 0.7))
    assert nearness(np.array([0.0, 5.0])).tolist() == [1, 0.5]


def test_outline_batches_show_the_mask_where_the_nodule_is_bright_and_near() -> None:
    planes, mask = next(outline_batches(3, [stack()], 32))
    assert planes.shape == (32, 4, 64, 64)
    assert mask.shape == (32, 64, 64)
    marked = mask > 0.9
    assert 20 < int(marked.any((1, 2)).sum()) <= 32, "a few point beside it, where nothing is to be outlined"
    shown = marked.any((1, 2))
    assert float(planes[shown, 1][marked[shown]].mean()) > float(planes[shown, 1][mask[shown] < 0.1].mean()) + 0.3
    assert float(planes[shown, 3][marked[shown]].mean()) > 0.5


def test_the_outline_loss_is_least_for_the_mask_itself() -> None:
    mask = torch.zeros(2, 16, 16)
    mask[0, 4:9, 4:9] = 1
    right, shifted = ((12 * m[:, None] - 6) for m in (mask, mask.roll(2, 1)))
    assert outline_loss(right, mask) < outline_loss(shifted, mask)
    assert outline_loss(torch.full((2, 1, 16, 16), -6.0), mask) > outline_loss(right, mask)


@pytest.mark.thorough
def test_of_two_neighbours_the_one_that_is_pointed_at_is_outlined() -> None:
    networks = NodulePipeline(weights=None, device="cpu", options=Options()).networks
    hu = np.full((24, 140, 140), -870, np.float32) + np.random.default_rng(0).normal(0, 15, (24, 140, 140))
    hu[:, :15] = 40
    places = [(12.0, 70.0, 62.0), (12.0, 70.0, 84.0)]
    for z, y, x in places:
        away = np.linalg.norm((np.moveaxis(np.indices(hu.shape), 0, -1) - (z, y, x)) * (1.25, 0.7, 0.7), axis=-1)
        hu[away < 4.5] = 30
    for centre in places:
        nodule = outline(
            networks.outline,
            hu.astype(np.float32),
            (1.25, 0.7, 0.7),
            Candidate(centre=centre, diameter_mm=9.0),
            "cpu",
        )
        assert nodule is not None
        assert nodule.certainty > 0.5
        middle = np.argwhere(nodule.mask).mean(0) + [s.start for s in nodule.box]
        assert np.abs(middle - centre).max() < 2
        assert nodule.diameter_mm == pytest.approx(9.0, abs=1.5)


def test_the_distance_to_a_candidate_fits_what_a_window_shows() -> None:
    hu = np.zeros((5, 60, 50), np.float32)
    hu[2, 30, 20] = 1000
    spacing = (2.5, 2 * PIXEL_MM, 2 * PIXEL_MM)
    window = Window.round(25, 25, spacing)
    slices = np.array([1, 2])
    away = window.distance_mm(slices, (2.0, 30.0, 20.0), spacing)
    brightest = np.unravel_index(int(window.cut(hu, slices)[1].argmax()), (CROP, CROP))
    assert away[1][brightest] < PIXEL_MM
    assert away[0].min() == pytest.approx(2.5, abs=0.2)


def test_readers_who_mark_the_same_agree_wholly() -> None:
    assert readers_agreement([stack()]) == {"one_against_another": 1.0, "one_against_two_of_the_others": 1.0}
    assert readers_agreement([stack(2)])["one_against_another"] == pytest.approx(1 / 3, abs=1e-3)


def test_the_weighing_learns_what_tells_nodules_apart() -> None:
    rng = np.random.default_rng(1)
    verdict, bulge = rng.uniform(0.02, 0.98, 400), np.exp(rng.uniform(np.log(40), np.log(400), 400))
    odds = 1.2 * np.log(verdict / (1 - verdict)) + 2.0 * np.log(bulge / 150)
    nodules = rng.random(400) < 1 / (1 + np.exp(-odds))
    fitted = fit_weighing(list(zip(verdict, bulge, strict=True)), nodules)
    assert fitted.verdict == pytest.approx(1.2, abs=0.4)
    assert fitted.bulge == pytest.approx(2.0, abs=0.6)
    assert fitted.probability(0.5, 150) == pytest.approx(0.5, abs=0.1)


def test_no_candidate_is_a_nodule_for_certain() -> None:
    assert round(Weighing(verdict=2.0, bulge=2.0, base=0.0).probability(1.0, 1000.0), 4) == 0.9999


def test_probability_rises_with_the_verdict_and_with_the_bulge() -> None:
    weighing = Weighing(verdict=0.9, bulge=1.6, base=-1.6 * np.log(100))
    assert weighing.probability(0.5, 100) == pytest.approx(0.5)
    assert weighing.probability(0.9, 100) > weighing.probability(0.5, 100) > weighing.probability(0.5, 60)
    assert weighing.probability(0.9, 0) == weighing.probability(0.9, 40), "a peak without a blob has the least of one"


def ground() -> Background:
    hu = np.full((30, 90, 90), -870, np.float32)
    places = np.argwhere(np.ones((30, 90, 90), bool)).astype(np.int32)
    return Background(
        hu=hu, ignored=np.zeros(hu.shape, bool), places=places, near_wall=places, near_vessel=places, step_mm=2.0
    )


def ball(diameter_mm: int) -> Shape:
    half = diameter_mm
    away = np.linalg.norm(np.indices((2 * half + 1,) * 3) - half, axis=0)
    cover = (away <= diameter_mm / 2).astype(np.float32)
    return Shape(cover=cover, texture=np.zeros_like(cover), diameter_mm=float(diameter_mm))


def test_planted_nodules_are_where_it_is_said_and_apart_from_all_others() -> None:
    where = Site(ground=ground(), own=[Lesion(np.array([30.0, 45.0, 45.0]), 20.0)])
    hu, placed = plant(np.random.default_rng(2), where, [ball(8)] * 4)
    assert [p.number for p in placed] == [0, 1, 2, 3]
    for number, lesion in enumerate(placed):
        z, y, x = np.round(lesion.middle / where.spacing).astype(int)
        assert hu[z, y, x] > -450
        others = [*placed[:number], *placed[number + 1 :], *where.own]
        assert not any(lesion.hit(o.middle) for o in others)
    assert lesion.hit(lesion.middle + np.array([0, 3.9, 0]))
    assert not lesion.hit(lesion.middle + np.array([0, 4.1, 0]))
    assert where.ground.hu.max() == -870, "the scan itself is left as it is"


def test_sensitivity_is_read_at_a_number_of_false_alarms() -> None:
    tally = DetectionCount(1, [(5.0, 0.9), (8.0, 0.5)], [(6.0, 0.0)], [0.7, 0.4]) + DetectionCount(
        1, [(9.0, 0.3)], [], [0.6]
    )
    assert [tally.sensitivity(rate) for rate in (0, 0.5, 1, 2)] == [0.25, 0.25, 0.5, 0.75]


@pytest.mark.thorough
def test_a_quarter_of_the_dose_doubles_the_noise() -> None:
    rng = np.random.default_rng(4)
    away = np.hypot(*(np.indices((128, 128)) - 63.5))
    clean = np.where(away < 55, 40.0, -1000.0)[None].repeat(4, 0)
    hu = (clean + np.where(away < 55, 12.0, 0.0) * rng.standard_normal(clean.shape)).astype(np.float32)
    low = quarter_dose(hu, np.random.default_rng(5))
    inside = np.broadcast_to(away < 40, hu.shape)
    assert low.shape == hu.shape
    assert 1.5 < low[inside].std() / hu[inside].std() < 3
    assert abs(float(low[inside].mean() - hu[inside].mean())) < 2


def a_part(network: nn.Module, target: float, steps: int = 4) -> Part:
    def batches(seed: int) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield torch.rand(4, 3, 8, 8, generator=generator), torch.full((4,), target)

    return Part(
        name="outline",
        network=network,
        batches=batches,
        validation=[next(batches(0))],
        loss=lambda output, wanted: (output.mean((1, 2, 3)) - wanted).square().mean(),
        prepare=lambda images: images,
        steps=steps,
    )


@pytest.mark.thorough
def test_training_stops_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = a_part(nn.Conv2d(3, 1, 3), 2.0)
    fit(first, tmp_path, 1.0, resume=False)
    assert first.done == 4
    again = a_part(nn.Conv2d(3, 1, 3), 2.0, steps=6)
    fit(again, tmp_path, 1.0, resume=True)
    assert again.done == 6
    assert [step for step, _, _ in again.curve] == [4, 6]
    other = a_part(nn.Conv2d(3, 1, 3), 2.0)
    other.begin_with(again.best_tensors)
    assert torch.equal(other.average["weight"], again.best_tensors["weight"])


@pytest.mark.thorough
def test_training_ends_when_nothing_gets_better(tmp_path: Path) -> None:
    part = a_part(nn.Conv2d(3, 1, 3), 2.0, steps=1000)
    part.best = 0.0
    part.curve = [(step, 1.0, 1.0 + step) for step in range(PATIENCE)]
    fit(part, tmp_path, 1.0, resume=False)
    assert part.done == 0


def test_the_worst_outlines_are_drawn(tmp_path: Path) -> None:
    truth = np.zeros((3, 40, 40), bool)
    truth[1, 10:20, 10:20] = True
    draw_case(np.where(truth, 200.0, 20.0), truth, np.roll(truth, 3, 1), 0.7, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_insertion_never_darkens_what_is_denser() -> None:
    slices = np.full((5, 30, 30), 200.0, np.float32)
    insert(slices, spheroid(np.random.default_rng(0), 8.0), (2.0, 15, 15), 1.0, 1.0)
    assert slices.min() >= 199


def test_grey_crops_are_calibrated_by_lung_and_soft_tissue() -> None:
    rng = np.random.default_rng(2)
    hu = np.where(np.arange(128)[:, None] < 70, -860.0, 40.0) + rng.normal(0, 20, (128, 128))
    hu[100:104, 60:64] = 700
    hu[5, 5] = -1020
    back = calibrated((stretched(hu[None])[0] * 255).astype(np.uint8))
    assert back is not None
    assert np.abs(np.median(back[:60]) + 860) < 15
    assert np.abs(np.median(back[80:]) - 40) < 15
    assert calibrated(np.full((128, 128), 90, np.uint8)) is None
