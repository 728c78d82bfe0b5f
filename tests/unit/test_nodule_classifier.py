"""The nodule pipeline's second opinion: blobs of every kind, what the classifier is shown, what is said of a nodule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from node.pipeline import Code
from pipelines.nodule.appearance import (
    NON_SOLID,
    PART_SOLID,
    SOLID,
    malignancy,
    texture,
    third,
)
from pipelines.nodule.blobs import blobs, largest_near
from pipelines.nodule.candidates import Candidate, Crop
from pipelines.nodule.classify import classify
from pipelines.nodule.crops import CROP, PIXEL_MM, Window, gap
from pipelines.nodule.lungs import Lungs, closed_by
from pipelines.nodule.network import ClassifierNet
from pipelines.nodule.outline import Outline, by_density
from pipelines.nodule.search import candidates
from pipelines.nodule.training.classifier_examples import (
    KEPT,
    classifier_batches,
    classifier_loss,
    from_scan,
    from_stack,
    turned_views,
)
from pipelines.nodule.training.figures import auc, auc_with_interval
from pipelines.nodule.training.patches import Stack, hollowed
from pipelines.nodule.training.scans import Background

AIR = -870.0
CENTRE = np.array([40.0, 44.0, 36.0])


def lung(shape: tuple[int, int, int] = (80, 80, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Air with a little noise, and the distance of every voxel from ``CENTRE`` in voxels of 1 mm."""
    hu = np.full(shape, AIR, np.float32) + np.random.default_rng(0).normal(0, 10, shape).astype(np.float32)
    away = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), CENTRE, strict=True)))
    return hu, away


def crop_of(hu: np.ndarray) -> Crop:
    cells = tuple(n // 4 for n in hu.shape)
    return Crop(hu=torch.from_numpy(hu), inside=np.ones(cells, bool), origin=np.zeros(3), scale=np.ones(3))


@pytest.mark.parametrize(("inner", "outer", "dense"), [(0, 3.5, 30), (0, 7, 30), (3, 5.5, 30), (0, 5, -500)])
def test_balls_cavities_and_ground_glass_are_blobs(inner: float, outer: float, dense: float) -> None:
    hu, away = lung()
    hu[(away >= inner) & (away <= outer)] = dense
    best = blobs(crop_of(hu))[0]
    assert np.linalg.norm(np.array(best.centre) - CENTRE) < 2
    assert outer < best.diameter_mm < 4 * outer


def test_a_straight_vessel_and_a_wall_are_no_blobs() -> None:
    hu, _ = lung()
    hu[:, 43:46, 35:38] = 30
    hu[:, :6] = 40
    candidates = blobs(crop_of(hu))
    assert all(np.abs(np.array(c.centre[1:]) - CENTRE[1:]).max() > 4 or not 8 < c.centre[0] < 72 for c in candidates)
    assert all(c.centre[1] > 12 or min(c.centre[0], c.centre[2]) < 10 for c in candidates)


def test_blobs_are_the_same_however_far_the_lung_reaches() -> None:
    hu, away = lung()
    hu[away <= 5] = 30
    whole = crop_of(hu)
    part = replace(whole, inside=np.zeros_like(whole.inside))
    part.inside[9:12, 10:13, 8:11] = True
    (near,) = blobs(part)
    assert near in blobs(whole)
    part.inside[:] = False
    assert blobs(part) == []


def test_the_largest_neighbour_is_that_of_a_filter() -> None:
    values = np.random.default_rng(1).normal(size=(3, 9, 1, 8)).astype(np.float32)
    np.testing.assert_array_equal(largest_near(values), ndimage.maximum_filter(values, 3))


@pytest.mark.parametrize("radius", [1, 4])
def test_closing_by_distances_is_closing_with_a_ball(radius: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(radius).normal(size=(24, 30, 28)), 2)
    mask = noise > np.percentile(noise, 70)
    assert mask[0].any()
    z, y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    ball = z * z + y * y + x * x <= radius * radius
    expected = ndimage.binary_closing(np.pad(mask, radius), ball)[(slice(radius, -radius),) * 3]
    assert expected.sum() > mask.sum()
    np.testing.assert_array_equal(closed_by(mask, radius), expected)


def test_a_place_that_both_sources_propose_is_one_candidate() -> None:
    hu, away = lung()
    hu[away <= 5] = 30
    heat = np.full((5, 20, 20, 20), -20.0, np.float32)
    heat[1], heat[2:] = np.log(10.0), 0
    crop = crop_of(hu)
    (alone,) = candidates(heat, crop, (1, 1, 1))
    assert alone.score == 0
    heat[0, 10, 11, 9] = 1.0
    (both,) = candidates(heat, crop, (1, 1, 1))
    assert both.score == pytest.approx(0.73, abs=0.01)
    assert both.bulge_hu == alone.bulge_hu > 200


def test_a_window_shows_its_place_in_the_middle_and_repeats_the_border() -> None:
    hu = np.zeros((5, 60, 50), np.float32)
    hu[2, 8, 3] = 1000
    spacing = (2.5, 2 * PIXEL_MM, 2 * PIXEL_MM)
    window = Window.round(8, 3, spacing)
    seen = window.cut(hu, np.array([1, 2, 9]))
    assert seen.shape == (3, CROP, CROP)
    assert float(seen[0].max()) == float(seen[2].max()) == 0
    row, column = np.unravel_index(int(seen[1].argmax()), (CROP, CROP))
    assert abs(row - CROP / 2) <= 2
    assert abs(column - CROP / 2) <= 2


def test_neighbouring_slices_are_about_two_millimetres_away() -> None:
    assert [gap(mm) for mm in (0.6, 1.0, 2.5, 5.0, 0.0)] == [3, 2, 1, 1, 2]


def test_each_candidate_gets_a_verdict_that_does_not_depend_on_the_others() -> None:
    torch.manual_seed(1)
    network = ClassifierNet().eval()
    hu, away = lung()
    hu[away <= 5] = 30
    places = [
        Candidate(centre=(float(z), float(y), float(x)), diameter_mm=8.0) for z, y, x in (CENTRE, CENTRE / 2, (0, 0, 0))
    ]
    together = classify(network, hu, (1.0, 1.0, 1.0), places, "cpu")
    alone = [classify(network, hu, (1.0, 1.0, 1.0), [p], "cpu")[0] for p in places]
    assert [v.nodule for v in together] == pytest.approx([v.nodule for v in alone], abs=1e-5)
    assert len({round(v.nodule, 6) for v in together}) == 3
    assert all(0 < v.nodule < 1 and 1 < v.malignancy < 5 for v in together)
    assert classify(network, hu, (1.0, 1.0, 1.0), [], "cpu") == []


def outlined(mask: np.ndarray) -> Outline:
    return Outline(box=(slice(0, 5), slice(0, 20), slice(0, 20)), mask=mask, diameter_mm=10.0, certainty=0.9)


def test_a_cavity_that_the_network_leaves_is_outlined_by_density_with_its_air() -> None:
    hu, away = lung()
    hu[(away > 2.5) & (away < 5)] = 20
    place = Candidate(centre=(float(CENTRE[0]), float(CENTRE[1]), float(CENTRE[2])), diameter_mm=10.0)
    shape = by_density(hu, (1.0, 1.0, 1.0), place)
    assert shape is not None
    assert shape.diameter_mm == pytest.approx(10, abs=1)
    assert shape.certainty == 0
    assert by_density(lung()[0], (1.0, 1.0, 1.0), place) is None


@pytest.mark.parametrize(("solid_part", "said"), [(0.0, NON_SOLID), (0.3, PART_SOLID), (1.0, SOLID)])
def test_solidity_is_read_off_the_histogram_without_the_rim(solid_part: float, said: Code) -> None:
    mask = np.zeros((5, 20, 20), bool)
    mask[:, 4:16, 4:16] = True
    hu = np.full(mask.shape, AIR, np.float32)
    hu[mask] = -600
    hu[:, 5 : 5 + round(10 * solid_part), 5:15] = 20
    assert texture(hu, outlined(mask)) == said


def test_a_nodule_under_6_mm_is_not_called_part_solid() -> None:
    mask = np.ones((5, 20, 20), bool)
    hu = np.where(np.arange(20) < 8, np.float32(20), np.float32(-600)) * np.ones(mask.shape, np.float32)
    shape = outlined(mask)
    assert texture(hu, shape) == PART_SOLID
    assert texture(hu, replace(shape, diameter_mm=5.9)) is None
    assert texture(hu * 0, replace(shape, diameter_mm=5.9)) == SOLID


def test_a_nodule_of_two_pixels_has_a_solidity_too() -> None:
    mask = np.zeros((5, 20, 20), bool)
    mask[2, 9:11, 9:11] = True
    assert texture(np.full(mask.shape, 10, np.float32), outlined(mask)) == SOLID


def test_position_is_the_third_of_the_lung_on_that_side() -> None:
    mask = np.zeros((30, 20, 40), bool)
    mask[0:30, 5:15, 2:18] = True
    mask[15:30, 5:15, 22:38] = True
    lungs = Lungs(mask=mask, midline=20.0)
    shape = (60, 200, 400)
    right = [third(lungs, (z, 100, 100), shape).value for z in (4, 30, 56)]
    left = [third(lungs, (z, 100, 300), shape).value for z in (34, 45, 56)]
    assert right == left == ["281394001", "281393007", "281392002"], "lower, middle and upper zone of lung"


def test_malignancy_is_said_in_the_words_of_the_readers_scale() -> None:
    assert malignancy(1.2).meaning == "1 out of 5 (Highly Unlikely for Cancer)"
    assert malignancy(4.6).value == "905"


def stack(raters: int = 4) -> Stack:
    """A crop with a nodule of 10 pixels in the middle, two vessels, and a wall."""
    grey = np.full((5, 128, 128), 40, np.uint8)
    away = np.hypot(*(np.indices((128, 128)) - 63.5))
    grey[:, away < 5] = 180
    for row, column in ((40, 80), (90, 45)):
        grey[:, row : row + 4, column : column + 4] = 200
    grey[:, :8] = 190
    readers = np.where(away < 5, raters, 0).astype(np.uint8)[None].repeat(5, 0)
    return Stack(grey=grey, readers=readers, raters=raters, pixel_mm=0.7, slice_mm=2.5, diameter_mm=9.0, malignancy=4.0)


def test_examples_from_a_crop_have_the_nodule_or_a_vessel_in_the_middle() -> None:
    examples = list(from_stack(np.random.default_rng(2), stack()))
    middle = KEPT // 2
    nodules = [e for e in examples if e.kind == "nodule"]
    beside = [e for e in examples if e.kind == "beside"]
    assert len(nodules) >= 3
    assert beside
    assert {(e.nodule, e.malignancy) for e in nodules} == {(1.0, 4.0)}
    assert {(e.nodule, e.malignancy) for e in beside} == {(0.0, 0.0)}
    assert nodules[0].planes[1, middle, middle] > 100
    bright = [e.planes[1, middle - 2 : middle + 2, middle - 2 : middle + 2].max() > 150 for e in beside]
    assert sum(bright) >= 3
    (doubtful, *_) = from_stack(np.random.default_rng(2), stack(raters=1))
    assert doubtful.nodule == 0.5, "one reader of four"


def test_examples_from_a_scan_are_nodules_vessels_and_its_own_blobs() -> None:
    hu, _ = lung((20, 120, 120))
    everywhere = np.argwhere(np.ones(hu.shape, bool)).astype(np.int32)
    ground = Background(
        hu=hu,
        ignored=np.zeros(hu.shape, bool),
        places=everywhere,
        near_wall=everywhere,
        near_vessel=everywhere,
        step_mm=2.5,
    )
    hu[7:9, 50:53, 70:73] = 100
    examples = list(from_scan(np.random.default_rng(1), ground, [], np.array([[8, 51, 71]]), 8))
    assert [e.kind for e in examples] == ["inserted"] * 8 + ["tube"] * 4 + ["blob"]
    assert [e.nodule for e in examples] == [1.0] * 8 + [0.0] * 5
    spot = examples[-1].planes[1]
    assert spot[KEPT // 2, KEPT // 2] > 150 > spot[KEPT // 4, KEPT // 4]
    assert hu.max() == 100, "the scan itself is left as it is"


def test_turning_keeps_the_place_near_the_middle() -> None:
    planes = torch.zeros(16, 3, KEPT, KEPT, dtype=torch.uint8)
    planes[:, :, KEPT // 2 - 3 : KEPT // 2 + 3, KEPT // 2 - 3 : KEPT // 2 + 3] = 255
    seen = turned_views(np.random.default_rng(0), planes)
    assert seen.shape == (16, 3, ClassifierNet.VIEW, ClassifierNet.VIEW)
    heavy = seen[:, 1] > seen[:, 1].amax((1, 2), keepdim=True) * 0.7
    for mask in heavy.numpy():
        assert np.abs(np.argwhere(mask).mean(0) - (ClassifierNet.VIEW - 1) / 2).max() < 6


def test_batches_mix_all_kinds_and_the_loss_ignores_unknown_malignancy() -> None:
    examples = list(from_stack(np.random.default_rng(2), stack()))
    views, nodule, score = next(classifier_batches(3, examples, 40))
    assert views.shape == (40, 3, ClassifierNet.VIEW, ClassifierNet.VIEW)
    assert 8 < int((nodule == 1).sum()) < 36
    assert torch.equal(score > 0, nodule == 1)
    logits = torch.zeros(40, 2)
    changed = logits.clone()
    changed[score == 0, 1] = 9.0
    assert classifier_loss(logits, nodule, score) == classifier_loss(changed, nodule, score)
    changed[score > 0, 1] = -9.0
    assert classifier_loss(logits, nodule, score) < classifier_loss(changed, nodule, score)


def test_a_hollowed_nodule_keeps_its_wall() -> None:
    nodule = stack()
    marked = nodule.readers >= 2
    planes = hollowed(np.random.default_rng(0), nodule.grey.astype(np.float32), marked, 0.7)
    assert planes[2, 63, 63] < 60
    assert planes[2, 63, 59] > 120
    assert np.abs(planes - nodule.grey)[~marked].max() < 15


def test_the_area_under_the_curve_counts_ties_half() -> None:
    assert auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.5
    told = auc_with_interval(np.arange(20.0) + 5, np.arange(20.0))
    assert told["interval"][0] < told["auc"] < told["interval"][1]
