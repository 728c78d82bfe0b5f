"""Brain volumetry: networks, grid, sides, refusals. The outlines themselves are judged by pipelines.brain.evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from highdicom import Volume
from torch import nn
from volume_series import VolumeSeries, points

from node.errors import WeightsError
from node.pipeline import Findings, Segment, Unsuitable, codes
from pipelines.brain import create, prepare
from pipelines.brain.anatomy import STRUCTURES
from pipelines.brain.contrast import why_not_native_t1
from pipelines.brain.convert import read_network
from pipelines.brain.evaluate import REFERENCE, compare, row
from pipelines.brain.grid import patient_affine, resample
from pipelines.brain.midline import mid_plane
from pipelines.brain.network import DILATIONS, MeshNet
from pipelines.brain.pipeline import ASYMMETRY, WEIGHTS, BrainPipeline, asymmetry_index
from pipelines.weights import load_weights

T1 = {"MRAcquisitionType": "3D", "EchoTime": 2.9, "InversionTime": 900.0, "SliceThickness": 1.0, "PatientAge": "044Y"}
LEVELS = {structure.labels[0]: 0.3 + 0.06 * number for number, structure in enumerate(STRUCTURES)} | {1: 1.0}
"""Signal of each structure of the phantom; white matter is the brightest."""
PLACES = {10: (24, -8), 11: (24, 12), 5: (4, -8), 6: (4, 12), 7: (-16, -8), 3: (-16, 12)}
"""Label -> how far behind and above the centre (mm) its two balls lie."""


def phantom(*, larger: str = "left", spacing: float = 1.0) -> Volume:
    """A ball of a brain whose hippocampus is larger on one side; axial slices from foot to head."""
    side = 1.0 if larger == "left" else -1.0
    axis = np.arange(-62.0, 62.0, spacing)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.sqrt(x**2 + y**2 + z**2)
    labels = np.where(distance < 54, 1, 0)
    labels[(distance < 54) & (distance > 47)] = 16
    for label, (back, up) in PLACES.items():
        for x_mm in (-22.0, 22.0):
            radius = 8.0 if label != 10 else (9.5 if x_mm * side > 0 else 7.0)
            labels[(x - x_mm) ** 2 + (y - back) ** 2 + (z - up) ** 2 < radius**2] = label
    labels[x**2 + y**2 + (z + 30) ** 2 < 64] = 9
    labels[x**2 + y**2 + (z - 20) ** 2 < 64] = 2
    image = np.zeros(labels.shape, np.float32)
    for label, level in LEVELS.items():
        image[labels == label] = 1000 * level
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing], [0, spacing, 0], [spacing, 0, 0]])
    affine[:3, 3] = (-50.0, -70.0, 20.0)
    return Volume(image, affine, "PATIENT", frame_of_reference_uid="1.2.3")


def read_levels(name: str, image: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What a perfect network says of the phantom."""
    if name == "tissue":
        labels = np.where(image > 0.97, 1, np.where(image > 0.2, 2, 0))
    else:
        labels = np.where(image > 0.2, 1, 0)
        for label, level in LEVELS.items():
            labels[np.abs(image / 1.07 - level) < 0.02] = label
    return labels.astype(np.uint8), np.full(image.shape, 0.95, np.float32)


@pytest.fixture(scope="module")
def loaded() -> BrainPipeline:
    pipeline = create(weights=None, device="cpu", options={})
    assert isinstance(pipeline, BrainPipeline)
    return pipeline


@pytest.fixture
def pipeline(loaded: BrainPipeline, monkeypatch: pytest.MonkeyPatch) -> BrainPipeline:
    """The pipeline with a network that knows the phantom; coils see it evenly."""
    monkeypatch.setattr(loaded, "_label", read_levels)
    monkeypatch.setattr(prepare, "_shading", lambda image, _: np.ones_like(image))
    return loaded


def by_label(findings: Findings) -> dict[str, Segment]:
    return {segment.label: segment for segment in findings.segments}


def stated(segment: Segment, name: object) -> float:
    return next(m.value for m in segment.measurements if m.name == name)


@pytest.mark.thorough
@pytest.mark.parametrize("orientation", ["HPL", "RPF", "LFA", "AHR"])
@pytest.mark.parametrize("larger", ["left", "right"])
def test_the_larger_hippocampus_is_on_its_own_side_in_every_orientation(
    pipeline: BrainPipeline, orientation: str, larger: str
) -> None:
    image = phantom(larger=larger).to_patient_orientation(orientation)
    segments = by_label(pipeline.run(VolumeSeries(image, "MR", T1)))
    left, right = segments["Left hippocampus"], segments["Right hippocampus"]
    centre = image.affine @ [*((np.array(image.array.shape) - 1) / 2), 1]
    for segment, side in ((left, 1), (right, -1)):
        x, y, z = points(segment.mask).mean(axis=0) - centre[:3]
        assert (x, y, z) == pytest.approx((22 * side, 24, -8), abs=1.5)
    assert (left.laterality, right.laterality) == (codes.SCT.Left, codes.SCT.Right)
    sizes = {"left": stated(left, codes.SCT.Volume), "right": stated(right, codes.SCT.Volume)}
    smaller = "right" if larger == "left" else "left"
    assert sizes[larger] == pytest.approx(4 / 3 * np.pi * 9.5**3, rel=0.15)
    assert sizes[smaller] == pytest.approx(4 / 3 * np.pi * 7.0**3, rel=0.15)
    index = stated(left, ASYMMETRY)
    assert index == stated(right, ASYMMETRY) == pytest.approx(asymmetry_index(sizes["left"], sizes["right"]), abs=0.5)
    assert (index > 40) if larger == "left" else (index < -40)


@pytest.mark.thorough
def test_outlines_on_an_oblique_grid_do_not_overlap(pipeline: BrainPipeline) -> None:
    image, angle = phantom(), np.deg2rad(7)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = Volume(image.array, turn @ image.affine @ np.diag([1.0, 1.1, 1.1, 1.0]), "PATIENT")
    findings = pipeline.run(VolumeSeries(oblique, "MR", T1))
    times = np.zeros(oblique.array.shape, np.uint8)
    for segment in findings.segments:
        times += segment.mask.match_geometry(oblique.get_geometry()).array.astype(np.uint8)
    assert times.max() == 1, "viewers draw overlapping segments in layers, and OHIF not all of them"


@pytest.mark.thorough
def test_unpaired_structures_have_no_side_and_no_asymmetry(pipeline: BrainPipeline) -> None:
    findings = pipeline.run(VolumeSeries(phantom(), "MR", T1))
    stem = by_label(findings)["Brain stem"]
    assert stem.laterality is None
    assert [m.name for m in stem.measurements] == [codes.SCT.Volume]
    assert len(findings.segments) == sum(2 if structure.paired else 1 for structure in STRUCTURES)
    assert not findings.cut_off
    assert "Brain tissue without ventricles" in findings.remarks[0]


@pytest.mark.thorough
def test_structures_that_reach_the_edge_are_not_measured(pipeline: BrainPipeline) -> None:
    whole = phantom()
    cut = whole[:, :, : whole.array.shape[2] // 2 + 45]  # the left side ends where the shell still goes on
    findings = pipeline.run(VolumeSeries(cut, "MR", T1))
    names = " ".join(by_label(findings))
    assert "cortex" not in names
    assert "hippocampus" in names
    assert "cerebral cortex" in findings.cut_off
    assert not any("Brain tissue" in remark for remark in findings.remarks), "a part of it was not seen"


@pytest.mark.thorough
def test_images_the_network_does_not_know_are_refused(pipeline: BrainPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_hippocampus(name: str, image: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        labels, probability = read_levels(name, image)
        return np.where(labels == 10, 1, labels).astype(np.uint8), probability

    monkeypatch.setattr(pipeline, "_label", without_hippocampus)
    with pytest.raises(Unsuitable, match=r"does not recognise these images: hippocampus of 0\.0 ml"):
        pipeline.run(VolumeSeries(phantom(), "MR", T1))


@pytest.mark.thorough
def test_an_unsure_network_asks_for_a_look(pipeline: BrainPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pipeline, "_label", lambda name, image: (read_levels(name, image)[0], np.full(image.shape, 0.7))
    )
    findings = pipeline.run(VolumeSeries(phantom(), "MR", T1))
    assert findings.evaluations == {codes.DCM.ImageQuality: codes.DCM.PoorImageQuality}
    assert "mean probability 70 %" in findings.remarks[-1]


def test_a_volume_without_a_brain_is_refused(pipeline: BrainPipeline) -> None:
    small = Volume(phantom().array, np.diag([0.5, 0.5, 0.5, 1.0]), "PATIENT")
    with pytest.raises(Unsuitable, match="No whole adult brain"):
        pipeline.run(VolumeSeries(small, "MR", T1))
    with pytest.raises(Unsuitable, match="all voxels are equal"):
        pipeline.run(VolumeSeries(small.with_array(np.full_like(small.array, 7)), "MR", T1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"MRAcquisitionType": "2D"}, "MR Acquisition Type is 2D"),
        ({"MRAcquisitionType": None}, "MR Acquisition Type is absent"),
        ({"ContrastBolusAgent": "Gadovist"}, "contrast agent"),
        ({"EchoTime": 90.0}, "Echo Time is 90 ms"),
        ({"InversionTime": 1800.0}, "Inversion Time is 1800 ms"),
        ({"SliceThickness": 3.0}, "slices are 3 mm thick"),
        ({"SeriesDescription": "t2_space_sag"}, "names another contrast"),
        ({"SeriesDescription": "3D FLAIR sag"}, "names another contrast"),
        ({"SeriesDescription": "T1 MPRAGE +C"}, "names another contrast"),
        ({"ProtocolName": "TOF_3D_multi-slab"}, "names another contrast"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "phase image"),
        ({"PatientAge": "012Y"}, "under 18 years"),
        ({"PatientAge": "006M"}, "under 18 years"),
    ],
)
def test_series_that_are_no_native_t1_of_an_adult_are_refused(change: dict[str, Any], reason: str) -> None:
    series = VolumeSeries(phantom(spacing=20.0), "MR", T1 | change)
    assert reason in str(why_not_native_t1(series))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"SeriesDescription": "mocoMEMPRAGE_220FOV RMS", "SequenceName": "r73d4_ns"},
        {"SeriesDescription": "Sag FSPGR BRAVO", "ContrastBolusAgent": "NONE", "PatientAge": ""},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"], "SeriesDescription": "t1_mprage_sag_p2_iso"},
    ],
)
def test_native_t1_series_are_accepted(change: dict[str, Any]) -> None:
    assert why_not_native_t1(VolumeSeries(phantom(spacing=20.0), "MR", T1 | change)) is None


@pytest.mark.parametrize("slab", [3, 8, 64])
def test_a_network_in_slabs_gives_what_one_convolution_after_another_gives(slab: int) -> None:
    torch.manual_seed(1)
    network = MeshNet(4, 5, nn.ELU(inplace=True)).eval()
    image = torch.rand(21, 9, 11)
    with torch.inference_mode():
        x = image[None, None]
        for layer, d in zip(network.layers, DILATIONS, strict=True):
            x = nn.functional.elu(nn.functional.conv3d(x, layer.weight, layer.bias, padding=d, dilation=d))
        wanted = network.scores(x)[0].softmax(0)
    labels, probability = network.labels(image, slab)
    assert torch.equal(labels.long(), wanted.argmax(0))
    assert torch.allclose(probability, wanted.max(0)[0], atol=1e-6)


def test_the_packaged_weights_are_pinned_and_fill_both_networks(loaded: BrainPipeline, tmp_path: Path) -> None:
    assert loaded.algorithm.weights_sha256 == load_weights(WEIGHTS).sha256
    other = tmp_path / "weights.safetensors"
    other.write_bytes(WEIGHTS.read_bytes() + b" ")
    other.with_suffix(".sha256").write_text(WEIGHTS.with_suffix(".sha256").read_text())
    with pytest.raises(WeightsError, match="pinned is"):
        create(weights=other, device="cpu", options={})
    with pytest.raises(ValueError, match=r"option threshold = 0\.5 is unknown"):
        create(weights=None, device="cpu", options={"threshold": 0.5})


def test_networks_of_tensorflow_js_are_converted_value_by_value(tmp_path: Path) -> None:
    kernels = np.random.default_rng(1).normal(size=(2, 3, 3, 3, 1, 2)).astype("<f4")
    scores = np.arange(6, dtype="<f4").reshape(1, 1, 1, 2, 3)
    parts = [
        ("a/kernel", kernels[0]),
        ("a/bias", np.ones(2, "<f4")),
        ("o/kernel", scores),
        ("o/bias", np.zeros(3, "<f4")),
    ]
    weights = [{"name": name, "shape": list(values.shape), "dtype": "float32"} for name, values in parts]
    manifest = {"weightsManifest": [{"paths": ["model.bin"], "weights": weights}]}
    (tmp_path / "model.bin").write_bytes(b"".join(values.tobytes() for _, values in parts))
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    made = read_network(tmp_path)
    assert set(made) == {"layers.0.weight", "layers.0.bias", "scores.weight", "scores.bias"}
    assert made["layers.0.weight"][1, 0, 0, 1, 2] == kernels[0][0, 1, 2, 0, 1]
    weights[0]["dtype"] = "uint8"
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="only plain float32"):
        read_network(tmp_path)


def test_a_grid_of_1_mm_along_the_patient_keeps_its_voxels() -> None:
    image = phantom(spacing=4.0)
    fine = Volume(image.array, np.vstack([image.affine[:3] / [4, 4, 4, 1], [0, 0, 0, 1]]), "PATIENT")
    affine, shape = patient_affine(fine, 1.0)
    turned = fine.to_patient_orientation("LFA")
    assert np.allclose(affine, turned.affine)
    assert np.array_equal(resample(fine.array, fine.affine, affine, shape), turned.array)


@pytest.mark.thorough
def test_the_plane_of_symmetry_follows_a_tilted_head() -> None:
    tilted = phantom().to_patient_orientation("LFA")
    angle = np.deg2rad(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    middle = (np.array(tilted.array.shape) - 1) / 2
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    labels = (resample(tilted.array, np.eye(4), turn, tilted.array.shape) / 50).astype(np.uint8)
    normal = mid_plane(labels).normal
    assert np.rad2deg(np.arccos(normal[0])) == pytest.approx(12, abs=1.5)


@pytest.mark.thorough
def test_the_evaluation_measures_agreement_by_structure_and_side(pipeline: BrainPipeline) -> None:
    image = phantom()
    outlines = pipeline.outline(image)
    hippocampus = STRUCTURES[0]
    (left,), (right,) = REFERENCE[hippocampus.name]
    x = np.broadcast_to(np.arange(image.array.shape[2]) > image.array.shape[2] / 2, image.array.shape)
    ours = np.isclose(image.array, 1000 * LEVELS[10])
    truth = image.with_array(np.where(ours, np.where(x, left, right), 0).astype(np.float32))
    seen = compare(outlines, truth, hippocampus)
    assert seen.dice > 0.9
    assert seen.wrong_side == 0
    assert abs(seen.asymmetry_points) < 3
    assert "| hippocampus | 1.000 (1.000) |" in row(hippocampus, [seen])
    swapped = image.with_array(np.where(ours, np.where(x, right, left), 0).astype(np.float32))
    assert compare(outlines, swapped, hippocampus).wrong_side > 90
