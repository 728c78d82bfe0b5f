"""The nodule pipeline's false reports: which series count, where a place lies, and what thicker slices show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.data import get_testdata_file

from pipelines.nodule.lungs import find_lungs
from pipelines.nodule.options import Options
from pipelines.nodule.pipeline import NodulePipeline
from pipelines.nodule.training.false_reports import refusal, stored_series, totals
from pipelines.nodule.training.froc import DetectionCount, reliability
from pipelines.nodule.training.planting import Lesion, Site
from pipelines.nodule.training.report_location import ChestAnatomy
from pipelines.nodule.training.scans import Background
from pipelines.nodule.training.slice_figures import moved, thick_site, thickened

SPACING = (3.0, 3.0, 3.0)
SHAPE = (80, 80, 110)
FRONT_RIB, BACK_RIB = np.s_[30:50, 8:11, 25:30], np.s_[30:50, 60:63, 25:30]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def chest() -> ChestAnatomy:
    """Two ellipsoids of lung in soft tissue, a liver below the right one, and ribs before and behind it."""
    hu = np.full(SHAPE, -1000.0, np.float32)
    hu[:, 4:76, 4:106] = 40.0
    z, y, x = np.indices(SHAPE)
    for column in (30, 80):
        hu[((z - 42) / 34) ** 2 + ((y - 36) / 25) ** 2 + ((x - column) / 18) ** 2 < 1] = -850.0
    hu[:22, :, :55] = 40.0
    hu[FRONT_RIB] = hu[BACK_RIB] = 600.0
    lungs = find_lungs(hu, SPACING)
    assert lungs is not None
    return ChestAnatomy.of(hu, SPACING, lungs)


@pytest.mark.parametrize(
    ("cell", "place"),
    [
        ((42, 36, 30), "within the lung"),
        ((40, 12, 28), "costochondral joint"),
        ((40, 60, 28), "rib"),
        ((20, 36, 30), "diaphragm"),
        ((42, 36, 49), "hilum or vessel at it"),
        ((66, 36, 46), "mediastinum"),
        ((42, 36, 97), "wall"),
    ],
)
def test_a_place_is_named_by_the_lungs_and_bones_round_it(
    chest: ChestAnatomy, cell: tuple[int, int, int], place: str
) -> None:
    share = (np.array(cell) + 0.5) / SHAPE
    assert chest.place(share, 3.0) == place


def test_a_slice_that_lies_elsewhere_does_not_spoil_its_series(tmp_path: Path) -> None:
    source = get_testdata_file("CT_small.dcm")
    assert isinstance(source, str)
    for name in ("study/ct/1.dcm", "study/ct/2.dcm", "broken/3.dcm"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(source).read_bytes())
    (tmp_path / "README.md").write_text("no instance")
    counts = {series.name: len(series.files) for series in stored_series(tmp_path)}
    assert counts == {"study/ct": 2, "broken": 1}


def test_series_that_the_pipeline_would_refuse_are_counted_by_reason(tmp_path: Path) -> None:
    needs = NodulePipeline(weights=None, device="cpu", options=Options()).needs
    source = get_testdata_file("CT_small.dcm")
    assert isinstance(source, str)
    (tmp_path / "one.dcm").write_bytes(Path(source).read_bytes())
    (series,) = stored_series(tmp_path)
    assert refusal(needs, series) == "fewer than 16 images"
    assert refusal(needs, replace(series, modality="MR")) == "modality MR"
    assert not refusal(needs, replace(series, files=series.files * 16))


def test_false_reports_are_counted_per_series_and_by_place() -> None:
    analysed = {"a": {"reports": [{"place": "rib"}, {"place": "wall"}]}, "b": {"reports": [{"place": "rib"}]}}
    assert totals(analysed) == {"false_per_series": 1.5, "false_by_place": {"rib": 2, "wall": 1}}


def test_thicker_slices_are_the_mean_of_the_thin_ones() -> None:
    hu = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    assert thickened(hu, 2.5, 5.0)[:, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert thickened(hu, 2.5, 7.5)[:, 0, 0] == pytest.approx([1.0, 4.0]), "the incomplete last slice is left out"
    assert thickened(hu, 2.0, 3.0)[:2, 0, 0] == pytest.approx([1 / 3, 5 / 3])


def test_a_lesion_keeps_its_place_in_thicker_slices() -> None:
    hu = np.zeros((8, 2, 2), np.float32)
    hu[3] = 1.0
    places = np.zeros((1, 3), np.int32)
    ground = Background(hu=hu, ignored=hu > 2, places=places, near_wall=places, near_vessel=places, step_mm=2.5)
    where = Site(ground=ground, own=[Lesion(np.array([7.5, 0.0, 0.0]), 5.0)])
    thick = thick_site(where, 5.0)
    (lesion,) = thick.own
    at = int(np.argmax(thickened(hu, 2.5, 5.0)[:, 0, 0]))
    assert abs(lesion.middle[0] - at * thick.spacing[0]) <= 1.25
    assert moved(where.own[0], 2.5, 2.5).middle[0] == 7.5


def test_reliability_compares_what_was_said_with_what_was_there() -> None:
    right = DetectionCount(1, [(5.0, 0.95), (6.0, 0.95), (6.0, 0.0)], [(8.0, 0.55)], [0.55])
    seen = reliability(right)
    assert seen["n"] == 4, "a nodule that no report is of counts nowhere"
    assert [(row["n"], row["nodules"]) for row in seen["tenths"]] == [(2, 0.5), (2, 1.0)]
    assert seen["calibration_error"] == pytest.approx(0.05)
    assert seen["brier"] == pytest.approx((2 * 0.05**2 + 0.45**2 + 0.55**2) / 4, abs=1e-3)
    assert reliability(DetectionCount()) == {"n": 0}
