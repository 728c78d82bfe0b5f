"""A large dense region that no reported nodule explains makes the report partial; normal anatomy does not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from highdicom import Volume
from volume_series import VolumeSeries

from node.demo.phantom import write_chest_ct
from node.results.analysis import outcome_of, reason_of
from node.studies.folder import series_below
from node.studies.source import SourceSeries
from pipelines import nodule
from pipelines.nodule.candidates import Candidate
from pipelines.nodule.classify import Classification
from pipelines.nodule.lungs import Lungs, find_lungs
from pipelines.nodule.outline import Outline
from pipelines.nodule.pipeline import unexplained
from pipelines.nodule.search import Nodule
from pipelines.nodule.training.insertion import solid_mass

WITHIN_LUNG, AT_SIDE, ON_DIAPHRAGM, IN_MEDIASTINUM = (0.5, 0.5), (0.5, 0.15), (0.1, 0.5), (0.5, 1.0)
"""Height of the lung, from its lower end, and place from its outer edge to its inner one: shares."""


@pytest.fixture(scope="module")
def chest() -> Volume:
    """A body with two lungs."""
    shape, spacing = (90, 110, 140), (3.0, 3.0, 3.0)
    z, y, x = (
        (np.arange(n, dtype=np.float32) - (n - 1) / 2).reshape([-1 if i == k else 1 for i in range(3)]) * 3
        for k, n in enumerate(shape)
    )
    hu = np.where((x / 180) ** 2 + (y / 130) ** 2 + 0 * z < 1, 40.0, -1000.0)
    for side in (-1, 1):
        hu[((x - 85 * side) / 62) ** 2 + (y / 95) ** 2 + (z / 110) ** 2 < 1] = -870
    return Volume(hu.astype(np.float32), np.diag([*spacing, 1.0]), "PATIENT")


def with_ball(volume: Volume, place: tuple[float, float], diameter_mm: float, *, left: bool = True) -> Volume:
    hu = volume.array.copy()
    half = hu.shape[2] // 2
    lung = hu[:, :, half:] == -870 if left else hu[:, :, :half] == -870
    slices, columns = (np.flatnonzero(lung.any(axes)) for axes in ((1, 2), (0, 1)))
    outer, inner = (columns[-1], columns[0]) if left else (columns[0], columns[-1])
    centre = (
        slices[0] + place[0] * (slices[-1] - slices[0]),
        hu.shape[1] / 2,
        outer + place[1] * (inner - outer) + (half if left else 0),
    )
    away = np.linalg.norm(np.stack(np.indices(hu.shape), -1) - centre, axis=-1) * 3
    hu[away < diameter_mm / 2] = np.maximum(hu[away < diameter_mm / 2], 30)
    return volume.with_array(hu)


def lungs_of(volume: Volume) -> Lungs:
    lungs = find_lungs(volume.array, (3.0, 3.0, 3.0))
    assert lungs is not None
    return lungs


def nodule_at(centre: tuple[float, float, float], diameter_mm: float) -> Nodule:
    low = [round(c) for c in centre]
    return Nodule(
        candidate=Candidate(centre=centre, diameter_mm=diameter_mm),
        verdict=Classification(nodule=0.9, malignancy=3),
        outline=Outline(
            box=(slice(low[0], low[0] + 1), slice(low[1], low[1] + 1), slice(low[2], low[2] + 1)),
            mask=np.ones((1, 1, 1), bool),
            diameter_mm=diameter_mm,
            certainty=1,
        ),
        probability=0.9,
    )


@pytest.mark.thorough
@pytest.mark.parametrize("place", [WITHIN_LUNG, AT_SIDE])
@pytest.mark.parametrize("left", [False, True])
def test_a_large_mass_in_or_at_a_lung_is_named_with_its_side(
    chest: Volume, place: tuple[float, float], *, left: bool
) -> None:
    volume = with_ball(chest, place, 60, left=left)
    reason = unexplained(lungs_of(volume), volume.array.shape, [])
    assert f"middle zone of the {'left' if left else 'right'} lung, at least " in reason


@pytest.mark.thorough
@pytest.mark.parametrize("place", [ON_DIAPHRAGM, IN_MEDIASTINUM])
def test_what_a_diaphragm_or_a_heart_may_be_is_not_taken_for_a_mass(chest: Volume, place: tuple[float, float]) -> None:
    assert lungs_of(with_ball(chest, place, 90)).dense == ()


@pytest.mark.thorough
def test_lungs_without_a_mass_and_with_small_nodules_raise_no_alarm(chest: Volume) -> None:
    assert lungs_of(chest).dense == ()
    assert lungs_of(with_ball(chest, WITHIN_LUNG, 15)).dense == ()


def test_a_nodule_explains_the_region_that_it_fills_and_no_small_one_in_it_does(chest: Volume) -> None:
    volume = with_ball(chest, WITHIN_LUNG, 60)
    lungs = lungs_of(volume)
    (region,) = lungs.dense
    shape, far = volume.array.shape, (region.centre[0], region.centre[1], region.centre[2] - 60)
    assert unexplained(lungs, shape, [nodule_at(region.centre, 50)]) == ""
    assert unexplained(lungs, shape, [nodule_at(region.centre, 8)]) != ""
    assert unexplained(lungs, shape, [nodule_at(far, 50)]) != ""


@pytest.mark.thorough
def test_an_unexplained_mass_is_partial_and_never_no_findings(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    series = SourceSeries.read(write_chest_ct(tmp_path, matrix=128).paths)
    volume = series.volume("HPL")
    spacing = tuple(float(mm) for mm in volume.spacing)
    lungs = find_lungs(volume.array, (spacing[0], spacing[1], spacing[2]))
    assert lungs is not None
    assert lungs.dense == ()
    hu = volume.array.copy()
    index = np.stack(np.indices(hu.shape), -1)
    left = np.argwhere((hu < -500) & (index[..., 2] > lungs.midline * hu.shape[2] / lungs.mask.shape[2]))
    left = left[(left[:, 1] > 20) & (left[:, 1] < 108) & (left[:, 2] < 108)]
    away = np.linalg.norm((index - left.mean(0)) * spacing, axis=-1)
    hu[away < 30] = np.maximum(hu[away < 30], 30)
    pipeline = nodule.create(weights=None, device="cpu", options={"threshold": 0.99})
    findings = pipeline.run(VolumeSeries(volume.with_array(hu)))
    assert outcome_of(findings) == "partial"
    assert "mass or consolidation that no reported nodule explains" in reason_of(findings)


def test_a_planted_mass_has_the_size_that_was_asked_for() -> None:
    for diameter in (40.0, 70.0):
        shape = solid_mass(np.random.default_rng(3), diameter)
        assert np.cbrt(6 * shape.cover.sum() / np.pi) == pytest.approx(diameter, rel=0.05)


REAL = {"lidc-idri-0063": "", "lidc-idri-0001-partial": "", "lung-pet-ct-dx-a0001": "upper zone of the left lung"}


@pytest.mark.parametrize("study", REAL)
def test_the_tumour_of_a_real_study_is_named_and_nothing_else(study: str) -> None:
    folder = Path(os.environ.get("AINODE_DATA", "")) / "studies" / study
    if "AINODE_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("AINODE_DATA names no data folder")
    for paths in series_below([folder], lambda *_: None)[0].values():
        volume = SourceSeries.read(paths).volume("HPL")
        spacing = tuple(float(mm) for mm in volume.spacing)
        lungs = find_lungs(volume.array, (spacing[0], spacing[1], spacing[2]))
        assert lungs is not None
        reason = unexplained(lungs, volume.array.shape, [])
        assert reason.count(" zone of ") == int(bool(REAL[study]))
        assert REAL[study] in reason
