"""Series that end within the organ are never whole, whoever lost the images; whole ones raise no alarm."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from highdicom import Volume
from volume_series import VolumeSeries

from node.demo.phantom import write_brain_flair, write_chest_ct
from node.results.analysis import outcome_of, reason_of
from node.studies.folder import series_below
from node.studies.source import SourceSeries
from pipelines import nodule, tumor
from pipelines.cut_off import cut_off
from pipelines.nodule.appearance import third
from pipelines.nodule.lungs import Lungs, find_lungs, to_grid
from pipelines.nodule.pipeline import CUT_OFF_LOWER, CUT_OFF_UPPER, where_cut_off
from pipelines.nodule.sides import GRID_MM
from pipelines.tumor import coverage
from pipelines.tumor.coverage import why_cut_off
from pipelines.tumor.grid import NetworkGrid
from pipelines.tumor.prepare import intensity_scale

LOWER, UPPER = "cut off at the lower end", "cut off at the upper end"
PARTS = {"whole": (0, 0), "no lower third": (1, 0), "no upper third": (0, 1), "the middle alone": (1, 1)}


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return SourceSeries.read(write_chest_ct(tmp_path_factory.mktemp("chest"), matrix=128).paths).volume("HPL")


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return SourceSeries.read(write_brain_flair(tmp_path_factory.mktemp("brain")).paths).volume("HPL")


LUNGS = (CUT_OFF_LOWER, CUT_OFF_UPPER)
BRAIN = (coverage.CUT_OFF_LOWER, coverage.CUT_OFF_UPPER)


def lungs_of(volume: Volume) -> Lungs:
    lungs = find_lungs(np.ascontiguousarray(volume.array), tuple(float(mm) for mm in volume.spacing))
    assert lungs is not None
    return lungs


def lungs_cut_off(volume: Volume) -> str:
    return where_cut_off(lungs_of(volume))


def brain_cut_off(volume: Volume) -> str:
    grid = NetworkGrid.of(volume.array.shape, tuple(float(mm) for mm in volume.spacing))
    stack = grid.forward(np.ascontiguousarray(volume.array, np.float32))
    return why_cut_off(np.clip(stack / intensity_scale(stack), 0, 4).astype(np.float32), grid.voxel_mm[0])


def part_of(volume: Volume, part: str) -> Volume:
    third = len(volume.array) // 3
    below, above = PARTS[part]
    return volume[third * below : len(volume.array) - third * above]


def ends(sentence: str) -> tuple[int, int]:
    return int(LOWER in sentence), int(UPPER in sentence)


def test_a_sentence_names_each_end_that_was_not_seen() -> None:
    assert cut_off(10, zip(LUNGS, (3, 2), strict=True)) == ""
    assert cut_off(10, zip(LUNGS, (127.4, 2), strict=True)) == (
        "The lungs are cut off at the lower end: the lowest image still shows 127 cm2."
    )
    assert ends(cut_off(50, zip(BRAIN, (60, 70), strict=True))) == (1, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("part", PARTS)
def test_lungs_that_reach_an_outermost_image_are_cut_off_there(chest: Volume, part: str) -> None:
    assert ends(lungs_cut_off(part_of(chest, part))) == PARTS[part]


@pytest.mark.thorough
@pytest.mark.parametrize("part", PARTS)
def test_brain_that_reaches_an_outermost_image_is_cut_off_there(brain: Volume, part: str) -> None:
    assert ends(brain_cut_off(part_of(brain, part))) == PARTS[part]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("columns", "rows", "cut"),
    [
        ((0, 1), (0, 1), 0),
        ((0, 0.55), (0, 1), 1),
        ((0, 1), (0.35, 0.75), 1),  # as a coronal slab of the temporal lobes
        ((0, 1), (0, 0.6), 1),
    ],
)
def test_brain_that_a_field_of_view_cuts_is_partial(
    brain: Volume, columns: tuple[float, float], rows: tuple[float, float], cut: int
) -> None:
    assert brain_cut_off(narrowed(brain, columns, rows)).count("The field of view cuts the brain") == cut


@pytest.mark.thorough
def test_gas_below_the_lungs_and_the_trachea_above_them_are_no_lung(chest: Volume) -> None:
    gas = chest.array.copy()
    below, middle = gas[:4], gas.shape[1] // 2
    below[:, middle - 20 : middle, middle - 20 : middle] = -1000
    assert lungs_cut_off(chest.with_array(gas)) == ""


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_a_cut_off_series_is_partial_whatever_was_found(chest: Volume, brain: Volume) -> None:
    torch.set_num_threads(1)
    for package, volume, series in ((nodule, chest, {"modality": "CT"}), (tumor, brain, {"modality": "MR"})):
        pipeline = package.create(
            weights=None, device="cpu", options={} if package is nodule else {"any_contrast": True, "mirror": False}
        )
        cut = pipeline.run(VolumeSeries(part_of(volume, "no upper third"), **series))
        assert outcome_of(replace(cut, cut_off="")) == "findings"
        assert (outcome_of(cut), reason_of(cut)) == ("partial", cut.cut_off)
        assert UPPER in cut.cut_off


@pytest.mark.thorough
@pytest.mark.parametrize("part", PARTS)
def test_no_zone_is_stated_of_lungs_that_are_not_whole(chest: Volume, part: str) -> None:
    lungs = lungs_of(part_of(chest, part))
    places = np.argwhere(lungs.mask)[::500].astype(float)
    assert {third(lungs, place, lungs.mask.shape) is None for place in places} == {part != "whole"}


def filled(volume: Volume, *, left: bool, dorsal: float, height: float = 0.5) -> Volume:
    """One lung with soft tissue in its lower half (``height``), in the back ``dorsal`` of each slice."""
    hu = volume.array.copy()
    columns = slice(hu.shape[2] // 2, None) if left else slice(0, hu.shape[2] // 2)
    lung = hu[:, :, columns] < -500
    lung &= np.arange(hu.shape[1])[None, :, None] > hu.shape[1] * (1 - dorsal)
    lung[round(len(hu) * height) :] = False
    lung[:, [0, -1]] = lung[:, :, [0, -1]] = False
    hu[:, :, columns][lung] = 20
    return volume.with_array(hu)


@pytest.mark.thorough
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_lung_without_air_is_said_not_to_be_assessed(chest: Volume, side: str) -> None:
    spacing = tuple(float(mm) for mm in chest.spacing)
    whole, gone = (find_lungs(v.array, spacing) for v in (chest, filled(chest, left=side == "left", dorsal=0.9)))
    assert whole is not None
    assert gone is not None
    assert whole.not_assessed == ""
    assert gone.not_assessed.startswith(f"The {side} lung holds less than half the air of the other over ")


@pytest.mark.thorough
@pytest.mark.parametrize("gone", ["left", "right"])
def test_a_lung_that_alone_holds_air_keeps_its_side(chest: Volume, gone: str) -> None:
    lungs = lungs_of(filled(chest, left=gone == "left", dorsal=1, height=1))
    aerated = np.argwhere(lungs.mask)
    sides = [lungs.side(float(column)) for column in np.unique(aerated[:, 2])]
    assert set(sides) <= {"", "right" if gone == "left" else "left"}
    assert sides.count("") < len(sides) / 10


@pytest.mark.thorough
def test_a_field_of_view_that_shows_one_lung_has_no_sides(chest: Volume) -> None:
    half = chest.array.shape[2] // 2
    lungs = lungs_of(chest[:, :, half + 4 :])
    assert {lungs.side(float(column)) for column in range(lungs.mask.shape[2])} == {""}


def narrowed(volume: Volume, columns: tuple[float, float], rows: tuple[float, float]) -> Volume:
    """A smaller field of view, in shares of the whole one."""
    _, height, width = volume.array.shape
    (left, right), (top, bottom) = ((round(s * n) for s in shares) for shares, n in ((columns, width), (rows, height)))
    return volume[:, top:bottom, left:right]


FIELDS = {
    "right lung and a part of the left": ((0, 0.66), (0, 1)),
    "left lung and a part of the right": ((0.34, 1), (0, 1)),
    "no front and no back": ((0, 1), (0.35, 0.65)),
    "within the lungs": ((0.27, 0.73), (0.4, 0.6)),
}


@pytest.mark.parametrize("field", FIELDS)
def test_lungs_that_a_field_of_view_cuts_are_lungs_and_partial(chest: Volume, field: str) -> None:
    columns, rows = FIELDS[field]
    small = narrowed(chest, columns, rows)
    lungs = lungs_of(small)
    spacing = tuple(float(mm) for mm in small.spacing)
    hu = to_grid(np.ascontiguousarray(small.array), spacing, GRID_MM).numpy()
    assert lungs.mask[(hu < -600) & (hu > -900)].mean() > 0.85  # the rest is skin
    assert "The field of view cuts the lungs" in where_cut_off(lungs)
    assert lungs.not_assessed == ""
    middle = lungs.mask.shape[2] * (0.5 - columns[0]) / (columns[1] - columns[0])
    assert (lungs.side(middle - 10), lungs.side(middle + 10)) in (("right", "left"), ("", ""))


def test_a_whole_field_of_view_cuts_no_lungs(chest: Volume) -> None:
    assert where_cut_off(lungs_of(chest)) == ""


@pytest.mark.thorough
def test_an_unexplained_dense_lung_is_partial_and_never_no_findings(chest: Volume) -> None:
    torch.set_num_threads(1)
    pipeline = nodule.create(weights=None, device="cpu", options={"threshold": 0.99})
    findings = pipeline.run(VolumeSeries(filled(chest, left=True, dorsal=0.9)))
    assert outcome_of(findings) == "partial"
    assert "consolidation, collapse or fluid was not assessed" in reason_of(findings)


REAL = {
    "lidc-idri-0063": (0, 0),
    "lidc-idri-0001-partial": (1, 0),
    "lung-pet-ct-dx-a0001": (0, 0),
    "pgbm-001": (0, 0),
}


@pytest.mark.parametrize("study", REAL)
def test_real_studies_are_whole_or_cut_off_as_they_are(study: str) -> None:
    folder = Path(os.environ.get("AINODE_DATA", "")) / "studies" / study
    if "AINODE_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("AINODE_DATA names no data folder")
    judged = [
        ends((lungs_cut_off if source.modality == "CT" else brain_cut_off)(source.volume("HPL")))
        for source in map(SourceSeries.read, series_below([folder], lambda *_: None)[0].values())
        if source.modality == "CT" or "FLAIR" in str(source.attribute("SeriesDescription"))
    ]
    assert set(judged) == {REAL[study]}
