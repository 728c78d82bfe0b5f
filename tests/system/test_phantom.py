"""The phantoms: valid DICOM, clearly synthetic, and what they say of themselves is in the pixels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from node.config import load
from node.demo.chest import NODULES
from node.demo.images import Truth
from node.demo.phantom import write_brain_flair, write_chest_ct
from node.inference.plugins import load_pipeline
from node.pipeline import Findings, Volume
from node.reasons import reason_text
from node.routing.rules import Origin, SeriesHeader, decide
from node.studies.source import SourceSeries

CONFIG = Path(__file__).parents[2] / "config.toml"


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_chest_ct(tmp_path_factory.mktemp("chest"), matrix=256)


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_brain_flair(tmp_path_factory.mktemp("brain"))


@pytest.fixture(scope="module")
def chest_volume(chest: Truth) -> Volume:
    return SourceSeries.read(chest.paths).volume("HPL")


@pytest.fixture(scope="module")
def brain_volume(brain: Truth) -> Volume:
    return SourceSeries.read(brain.paths).volume("HPL")


def mean_at(volume: Volume, lps: tuple[float, float, float], radius_mm: float = 3.0) -> float:
    """Mean value in a ball round an LPS position in mm."""
    index = np.round(volume.map_reference_to_indices(np.array([lps]))[0]).astype(int)
    reach = [int(radius_mm / s) for s in volume.spacing]
    box = tuple(slice(max(i - r, 0), i + r + 1) for i, r in zip(index, reach, strict=True))
    return float(volume.array[box].mean())


def test_every_nodule_lies_where_the_truth_says_and_is_soft_tissue_in_lung(chest: Truth, chest_volume: Volume) -> None:
    assert len(chest.lesions) == len(NODULES) >= 3
    for lesion, nodule in zip(chest.lesions, NODULES, strict=True):
        assert mean_at(chest_volume, lesion.centre, 1.6) == pytest.approx(nodule.hu, abs=60), lesion.name
        x, y, z = lesion.centre
        beside = [mean_at(chest_volume, (x, y + s * lesion.diameter_mm, z), 1.6) for s in (-1, 1)]
        assert min(beside) < -700, lesion.name


def test_left_right_front_back_up_and_down_can_be_told_apart_in_the_chest(chest_volume: Volume) -> None:
    assert mean_at(chest_volume, (55, -27, -26)) > 0, "heart on the left"
    assert mean_at(chest_volume, (-75, -27, -10)) < -700, "lung in its place on the right"
    assert mean_at(chest_volume, (-70, 0, -80)) == pytest.approx(60, abs=30), "liver on the right, below"
    assert mean_at(chest_volume, (66, -52, -108)) < -900, "gas in the stomach: left, in front, below"
    assert mean_at(chest_volume, (0, 60, 30)) > 120, "spine behind"
    assert mean_at(chest_volume, (24, 44, 40)) == pytest.approx(42, abs=30), "descending aorta on the left"
    assert mean_at(chest_volume, (-2, 8, 100)) < -900, "trachea above"


def test_the_lesion_of_the_brain_is_bright_on_the_left_and_nowhere_else(brain: Truth, brain_volume: Volume) -> None:
    (lesion,) = brain.lesions
    x, y, z = lesion.centre
    assert x > 20
    assert mean_at(brain_volume, lesion.centre) > 1.5 * mean_at(brain_volume, (-x, y, z))
    bright = brain_volume.array > 0.5 * (mean_at(brain_volume, lesion.centre) + mean_at(brain_volume, (-x, y, z)))
    at = np.argwhere(bright)
    places = brain_volume.map_indices_to_reference(at.astype(float))
    within = places[np.linalg.norm(places - np.array(lesion.centre), axis=1) < lesion.diameter_mm]
    within = within[np.linalg.norm(within / (75, 95, 84), axis=1) < 0.78]  # the scalp is bright too
    assert np.linalg.norm(within.mean(0) - np.array(lesion.centre)) < 4
    assert len(within) * brain_volume.voxel_volume / 1000 == pytest.approx(lesion.volume_ml, rel=0.3)


def test_eyes_are_in_front_and_the_cerebellum_behind(brain_volume: Volume) -> None:
    eye = mean_at(brain_volume, (32, -76, -34))
    cerebellum = mean_at(brain_volume, (20, 50, -36))
    assert eye < 0.5 * cerebellum
    assert mean_at(brain_volume, (0, -105, -30)) < 0.3 * cerebellum, "air in front of the face"


def test_every_image_says_that_it_is_synthetic(chest: Truth, brain: Truth) -> None:
    for path in (*chest.paths, *brain.paths):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert "SYNTHETIC" in header.ImageComments
        assert str(header.PatientName).startswith("SYNTHETIC^")
        assert header.PatientID.startswith("DEMO-")


def test_two_runs_make_the_same_pixels_with_new_uids(tmp_path: Path) -> None:
    first, second = (write_brain_flair(tmp_path / name, matrix=64) for name in "ab")
    assert first.study_instance_uid != second.study_instance_uid
    assert first.series_instance_uid != second.series_instance_uid
    a, b = (pydicom.dcmread(truth.paths[9]) for truth in (first, second))
    assert a.SOPInstanceUID != b.SOPInstanceUID
    assert a.PixelData == b.PixelData


def test_the_shipped_rules_route_the_phantoms_to_their_pipelines(chest: Truth, brain: Truth) -> None:
    rules = load(CONFIG).rules
    wanted = {chest: {"nodule", "denoise"}, brain: {"tumor"}}
    for truth, pipelines in wanted.items():
        decision = decide(SeriesHeader.of([pydicom.dcmread(truth.paths[0], stop_before_pixels=True)]), rules, Origin())
        matching = {entry["rule"] for entry in decision.trace if entry["matched"]}
        assert {name for rule in rules if rule.name in matching for name in rule.pipelines} == pipelines, reason_text(
            decision.reason
        )


def test_dciodvfy_finds_no_error_in_the_phantoms(chest: Truth, brain: Truth) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    for path in (chest.paths[0], chest.paths[-1], brain.paths[0]):
        report = subprocess.run([program, path], capture_output=True, text=True, check=False)
        assert "Error" not in report.stderr + report.stdout, report.stderr


def centres(findings: Findings) -> np.ndarray:
    """LPS mm of the middle of each lesion."""
    masks = [lesion.segment.mask for lesion in findings.lesions]
    return np.array([m.map_indices_to_reference(np.argwhere(m.array > 0).mean(0)[None])[0] for m in masks])


def test_the_shipped_networks_find_every_lesion_of_the_phantoms(tmp_path: Path, brain: Truth) -> None:
    config = load(CONFIG)
    for truth, name in ((write_chest_ct(tmp_path), "nodule"), (brain, "tumor")):
        pipeline = load_pipeline(name, config.pipelines[name], "cpu")
        points = centres(pipeline.run(SourceSeries.read(truth.paths)))
        for lesion in truth.lesions:
            distance = np.linalg.norm(points - np.array(lesion.centre), axis=1).min()
            assert distance < max(2.0, lesion.diameter_mm / 8), f"{name}: {lesion.name}"
        assert len(points) <= len(truth.lesions) + 3, f"{name}: false findings"
