"""Detectability: observers against what is known of white noise, lesions, and structure that a chain invents."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from pipelines.denoise.training import observer
from pipelines.denoise.training.detectability import Regions, table_of
from pipelines.denoise.training.false_structure import apparent_contrast, spots
from pipelines.denoise.training.observer import Ratings, area_under_curve, channels, hotelling, matched, rate
from pipelines.denoise.training.scenes import CONDITIONS, Scene, disc, tissue_places, with_lesions

SIZE = 37
REGIONS = 1500


def lesion() -> np.ndarray:
    axis = np.arange(SIZE) - SIZE // 2
    return np.exp(-0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2) / 3.0**2)


def rated(absent: np.ndarray, present: np.ndarray, groups: np.ndarray) -> Ratings:
    return rate(absent, present, np.arange(len(absent)), groups, groups, by=hotelling)


def classes(seed: int, contrast: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    absent, present = rng.normal(0, 1, (2, REGIONS, SIZE, SIZE))
    return absent, present + contrast * lesion(), np.arange(REGIONS)


def test_the_channelized_observer_reaches_the_analytic_index_of_its_channels_in_white_noise():
    absent, present, groups = classes(1, 0.25)
    u = channels(SIZE)
    mean = u @ (0.25 * lesion()).ravel()
    analytic = np.sqrt(mean @ np.linalg.solve(u @ u.T, mean))
    ideal = 0.25 * np.linalg.norm(lesion())
    assert 0.8 * ideal < analytic < ideal  # ten channels lose little of the lesion
    seen = rated(absent.reshape(REGIONS, -1) @ u.T, present.reshape(REGIONS, -1) @ u.T, groups)
    assert seen.detectability == pytest.approx(analytic, abs=0.1)
    assert seen.auc == pytest.approx(ndtr(analytic / np.sqrt(2)), abs=0.02)


def test_the_matched_observer_is_ideal_in_white_noise():
    absent, _, groups = classes(2, 0.25)
    flat = absent.reshape(REGIONS, -1)
    seen = rate(flat, flat + 0.25 * lesion().ravel(), np.arange(REGIONS), groups, groups, by=matched)
    assert seen.detectability == pytest.approx(0.25 * np.linalg.norm(lesion()), abs=0.1)


def test_without_a_lesion_the_observer_is_blind():
    absent, present, groups = classes(7, 0.0)
    u = channels(SIZE)
    seen = rated(absent.reshape(REGIONS, -1) @ u.T, present.reshape(REGIONS, -1) @ u.T, groups)
    assert abs(seen.detectability) < 0.15


def test_a_filter_that_can_be_undone_neither_helps_nor_harms_the_channelized_observer():
    absent, present, groups = classes(3, 0.25)
    u = channels(SIZE)
    plain = [a.reshape(REGIONS, -1) @ u.T for a in (absent, present)]
    gain = np.linspace(0.3, 1, len(u))
    weaker = [a * gain for a in plain]
    assert rated(*plain, groups).auc == pytest.approx(rated(*weaker, groups).auc)


def test_the_area_counts_pairs_in_order_and_ties_as_half():
    assert area_under_curve(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 0.875


def test_the_bootstrap_draws_whole_groups_and_the_same_ones_for_every_chain():
    absent, present, _ = classes(4, 0.25)
    groups = np.arange(REGIONS) // 100
    u = channels(SIZE)
    seen = rated(absent.reshape(REGIONS, -1) @ u.T, present.reshape(REGIONS, -1) @ u.T, groups)
    areas = seen.drawn(area_under_curve)
    assert np.percentile(areas, 2.5) < seen.auc < np.percentile(areas, 97.5)
    assert np.array_equal(areas, seen.drawn(area_under_curve))


def test_every_condition_is_seen_at_every_place_of_the_phantom():
    places = np.stack(np.meshgrid([40, 76, 112, 148], [40, 76, 112, 148]), axis=-1).reshape(-1, 2)
    chosen = []
    for number in range(3):
        images, conditions = with_lesions(np.zeros((3, 190, 190), np.float32), places, 40.0, number)
        chosen += list(conditions)
        for image, at in zip(images, conditions, strict=True):
            peaks = [image[1, y, x] for y, x in places]
            expected = [CONDITIONS[c][1] * 40 * disc(CONDITIONS[c][0]).max() for c in at]
            assert peaks == pytest.approx(expected, rel=1e-5)
            assert np.array_equal(image[0], image[2])
    assert all(sorted(column) == list(range(len(CONDITIONS))) for column in np.array(chosen).T.tolist())


def test_places_are_in_even_soft_tissue_only():
    full = np.full((512, 512), -1000.0, np.float32)
    full[100:400, 100:300] = 40
    full[200:230, 100:512] = 900
    places = tissue_places(full)
    assert len(places) > 5
    for y, x in places:
        assert full[y - 8 : y + 9, x - 8 : x + 9].std() < 40
        assert full[y, x] == 40


def test_a_lesion_has_its_own_apparent_contrast_and_even_tissue_none():
    error = np.full((160, 160), 7.0, np.float32)
    error[22:59, 22:59] += 20 * disc(8)
    fitted = apparent_contrast(error, 8)
    assert fitted[40, 40] == pytest.approx(20, rel=0.01)
    assert abs(fitted[110, 110]) < 0.01


def test_invented_are_spots_that_the_input_does_not_show():
    noise = np.random.default_rng(5).normal(0, 1, (2, 120, 120)).astype(np.float32)
    truth = np.full((120, 120), 40.0, np.float32)
    low, where = truth + noise[0], np.ones((120, 120), bool)
    low[10:47, 10:47] += 20 * disc(8)
    kept, made = low.copy(), low.copy()
    made[60:97, 60:97] += 20 * disc(8)
    settings = {"diameter": 8.0, "limit": 10.0}
    assert spots(truth, low, truth, where, **settings) == (0, 0)
    assert spots(kept, low, truth, where, **settings) == (1, 0)
    assert spots(made, low, truth, where, **settings) == (2, 1)


def test_a_chain_that_keeps_the_lesion_and_takes_noise_is_better_for_the_matched_observer(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(observer, "BOOTSTRAP", 20)

    def chain(slices: np.ndarray) -> np.ndarray:
        return slices.mean(axis=0)

    rng = np.random.default_rng(6)
    places = np.array([[30, 30], [30, 70], [70, 30], [70, 70], [110, 30], [110, 70]])
    regions = {"input": Regions(), "mean": Regions()}
    for number in range(60):
        truth = np.zeros((140, 100), np.float32)
        absent = rng.normal(0, 40, (3, 140, 100)).astype(np.float32)
        present, conditions = with_lesions(absent, places, 40.0, number)
        flat = np.ones(truth.shape, bool)
        scene = Scene(number, absent, present, conditions, places, truth, flat, 40.0)
        regions["input"].add(scene, lambda s: s[1])
        regions["mean"].add(scene, chain)
    seen = {name: r.ratings(2, matched).detectability for name, r in regions.items()}
    assert seen["mean"] == pytest.approx(np.sqrt(3) * seen["input"], rel=0.2)
    table = table_of(regions)
    assert table["NPW"]["mean"]["mean AUC less input's"][0] > 0
    assert table["spots per 10,000 pixels"]["mean"]["false"] < table["spots per 10,000 pixels"]["input"]["false"]
