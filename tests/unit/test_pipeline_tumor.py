"""The FLAIR pipeline: pinned weights, true positions in every orientation, reasons instead of nonsense."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from volume_series import VolumeSeries

from node.errors import WeightsError
from node.pipeline import Unsuitable, Volume, codes
from pipelines.tumor import create
from pipelines.tumor.contrast import why_not_flair
from pipelines.tumor.grid import NetworkGrid
from pipelines.tumor.lesions import lesion_regions, side_of, third_of
from pipelines.tumor.network import MULTIPLE, SLICES, FlairNet, neighbours, parameter_count
from pipelines.tumor.pipeline import WEIGHTS, TumorPipeline, read_options
from pipelines.tumor.prepare import head_box, intensity_scale, probabilities
from pipelines.tumor.training.metrics import count_lesions, dice, hd95
from pipelines.weights import save_weights

FLAIR = {"SeriesDescription": "AX FLAIR", "EchoTime": 120.0, "InversionTime": 2500.0, "ScanningSequence": ["SE", "IR"]}
LESION_LPS = np.array([32.0, -22.0, 40.0])
"""Left, anterior; the centre of the phantom is at (4, 6, 30)."""


@pytest.fixture(scope="module")
def pipeline() -> TumorPipeline:
    torch.set_num_threads(1)
    return create(weights=None, device="cpu", options={"mirror": False})


@cache
def head(*, lesion: bool = True) -> Volume:
    """Axial phantom of a head in FLAIR, made once: scalp, skull, brain, ventricles and, if asked, a bright sphere."""
    spacing, shape = np.array([5.0, 0.9, 0.9]), (30, 230, 200)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing
    affine[3, 3] = 1
    centre = np.array([4.0, 6.0, 30.0])
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    lps = index @ affine[:3, :3].T + affine[:3, 3]

    def ellipsoid(at: np.ndarray, *radii: float) -> np.ndarray:
        return (((lps - at) / np.array(radii)) ** 2).sum(-1) < 1

    rng = np.random.default_rng(0)
    image = np.zeros(shape)
    image[ellipsoid(centre, 77, 97, 92)] = 450
    image[ellipsoid(centre, 71, 91, 86)] = 60
    image[ellipsoid(centre, 66, 86, 81)] = 200
    for side in (-1, 1):
        image[ellipsoid(centre + np.array([14.0 * side, 0, 8]), 7, 30, 12)] = 70
    if lesion:
        image[ellipsoid(LESION_LPS, 17, 17, 17)] = 380
    image += rng.normal(0, 6, shape)
    return Volume(np.clip(image, 0, None).astype(np.float32), affine, "PATIENT", "1.2.3")


def centroid_lps(mask: Volume) -> np.ndarray:
    return mask.map_indices_to_reference(np.argwhere(mask.array > 0).astype(float)).mean(axis=0)


@pytest.mark.thorough
@pytest.mark.parametrize("orientation", ["HPL", "FAR", "LPH", "PHR"])
def test_a_lesion_comes_back_where_it_is_in_the_patient(pipeline: TumorPipeline, orientation: str) -> None:
    turned = head().to_patient_orientation(orientation)
    findings = pipeline.run(VolumeSeries(turned, "MR", FLAIR))
    assert len(findings.lesions) == 1
    lesion = findings.lesions[0]
    assert np.linalg.norm(centroid_lps(lesion.segment.mask) - LESION_LPS) < 4
    volume_ml = lesion.segment.mask.array.sum() * lesion.segment.mask.voxel_volume / 1000
    assert 12 < volume_ml < 32  # the sphere has 20.6 ml
    assert lesion.laterality == codes.SCT.Left
    assert lesion.laterality == codes.SCT.Left
    assert [value.meaning for value in lesion.evaluations.values()] == ["middle third"]
    assert lesion.probability is not None
    assert lesion.probability > 0.5


@pytest.mark.thorough
def test_a_head_without_lesion_gives_no_findings(pipeline: TumorPipeline) -> None:
    findings = pipeline.run(VolumeSeries(head(lesion=False), "MR", FLAIR))
    assert findings.all_segments == ()


@pytest.mark.thorough
def test_thin_slices_give_the_mask_on_their_own_grid(pipeline: TumorPipeline) -> None:
    thick = head()
    thin = Volume(np.repeat(thick.array, 5, axis=0), thick.affine @ np.diag([0.2, 1, 1, 1]), "PATIENT", "1.2.3")
    lesion = pipeline.run(VolumeSeries(thin, "MR", FLAIR)).lesions[0]
    assert lesion.segment.mask.geometry_equal(thin)
    assert np.linalg.norm(centroid_lps(lesion.segment.mask) - LESION_LPS) < 5


def test_images_without_a_head_are_unsuitable(pipeline: TumorPipeline) -> None:
    empty = head().with_array(np.zeros((30, 230, 200), np.float32))
    with pytest.raises(Unsuitable, match="No head in the images"):
        pipeline.run(VolumeSeries(empty, "MR", FLAIR))


def test_thick_coronal_slices_are_unsuitable(pipeline: TumorPipeline) -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 0.9], [5.0, 0, 0], [0, -0.9, 0]]
    stretched = Volume(np.ones((40, 60, 50), np.float32), affine, "PATIENT", "1.2.3")
    with pytest.raises(Unsuitable, match="Axial pixels are"):
        pipeline.run(VolumeSeries(stretched, "MR", FLAIR))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"EchoTime": 8.9, "ScanningSequence": "SE"}, "Echo Time is 8.9 ms"),
        ({"EchoTime": 91.0, "ScanningSequence": "SE", "SeriesDescription": "AX FSE T2"}, "without inversion recovery"),
        ({"EchoTime": 60.0, "InversionTime": 150.0, "ScanningSequence": ["SE", "IR"]}, "Inversion Time is 150 ms"),
        ({"EchoTime": 100.0, "ScanningSequence": "SE", "ProtocolName": "t2_tirm_tra_dark-fluid"}, None),
        (FLAIR, None),
        ({}, None),
    ],
)
def test_flair_is_told_from_other_contrasts_by_its_headers(attributes: dict[str, object], reason: str | None) -> None:
    doubt = why_not_flair(VolumeSeries(head(), "MR", attributes))
    assert doubt is None if reason is None else reason in (doubt or "")


@pytest.mark.thorough
def test_another_contrast_is_refused_unless_the_site_wants_it(pipeline: TumorPipeline) -> None:
    series = VolumeSeries(head(), "MR", {"EchoTime": 8.9})
    with pytest.raises(Unsuitable, match="not T2-weighted FLAIR"):
        pipeline.run(series)
    eager = create(weights=None, device="cpu", options={"any_contrast": True, "maps": True})
    findings = eager.run(series)
    assert any("Not recognised as FLAIR" in remark for remark in findings.remarks)
    for shown in findings.maps:
        assert shown.volume.spatial_shape == series.volume("HPL").spatial_shape
        assert 0 <= shown.volume.array.min() <= shown.volume.array.max() <= 1
    assert [shown.quantity.meaning for shown in findings.maps] == ["Probability", "Saliency", "Standard Deviation"]


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "weights.safetensors"
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    copy.with_suffix(".sha256").write_text(WEIGHTS.with_suffix(".sha256").read_text())
    with pytest.raises(WeightsError, match="SHA-256"):
        create(weights=copy, device="cpu", options={})


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_weights({"stem.conv1.weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match="of another network"):
        create(weights=tmp_path / "weights.safetensors", device="cpu", options={})


def test_mirroring_makes_the_prediction_symmetric() -> None:
    torch.manual_seed(0)
    network = FlairNet().eval()
    image = np.zeros((3, 96, 96), np.float32)
    image[:, 24:72, 24:72] = np.random.default_rng(0).uniform(0.5, 1.5, (3, 48, 48))
    seen = probabilities(network, image)
    turned = probabilities(network, np.ascontiguousarray(image[:, :, ::-1]))
    assert np.allclose(seen, turned[:, :, ::-1], atol=1e-5)


def test_the_algorithm_names_its_weights_and_settings(pipeline: TumorPipeline) -> None:
    assert pipeline.algorithm.weights_sha256 == WEIGHTS.with_suffix(".sha256").read_text().split()[0]
    assert pipeline.algorithm.parameters["threshold"] == str(pipeline.options.threshold)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"treshold": 0.5}, "treshold = 0.5 is unknown; use one of threshold"),
        ({"threshold": 1.5}, "threshold is 1.5; use a number between 0 and 1"),
        ({"threshold": "high"}, "threshold is 'high'; give a float"),
        ({"mirror": 1}, "mirror is 1; give a bool"),
        ({"min_probability": 2}, "min_probability is 2; use a number from 0 to 1"),
        ({"min_volume_ml": -1}, "min_volume_ml is -1; use millilitres"),
        ({"large_volume_ml": -1}, "large_volume_ml is -1; use millilitres"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        read_options(options)


def test_the_network_marks_the_middle_slice_at_full_resolution() -> None:
    network = FlairNet().eval()
    with torch.inference_mode():
        assert network(torch.rand(2, SLICES, 3 * MULTIPLE, 2 * MULTIPLE)).shape == (2, 1, 3 * MULTIPLE, 2 * MULTIPLE)
    assert 1e6 < parameter_count(network) < 3e6


def test_neighbours_repeat_the_outermost_slice_at_the_ends() -> None:
    stack = torch.arange(4.0)[:, None, None]
    assert neighbours(stack, torch.tensor([0, 3]))[:, :, 0, 0].tolist() == [[0, 0, 0, 1, 2], [1, 2, 3, 3, 3]]


def test_brain_is_near_one_whatever_the_scanner_calls_it() -> None:
    image = head().array
    assert intensity_scale(image) == pytest.approx(200, rel=0.1)
    assert intensity_scale(image * 7) == pytest.approx(7 * intensity_scale(image))


def test_the_head_box_holds_the_head_and_little_else() -> None:
    rows, columns = head_box(head().array / 200)
    assert (rows.stop - rows.start) * 0.9 == pytest.approx(2 * 97 + 14, abs=6)
    assert (columns.stop - columns.start) * 0.9 == pytest.approx(2 * 77 + 14, abs=6)


def test_the_network_grid_and_back_keeps_a_ramp_in_place() -> None:
    grid = NetworkGrid.of((41, 100, 120), (1.0, 0.5, 0.7))
    assert grid.slab == 3
    assert (grid.rows, grid.columns) == (54, 91)
    ramp = np.broadcast_to(np.arange(41.0, dtype=np.float32)[:, None, None], (41, 100, 120)).copy()
    returned = grid.back(grid.forward(ramp))
    assert returned.shape == ramp.shape
    assert np.abs(returned[3:-5] - ramp[3:-5]).max() < 0.01


def test_near_parts_are_one_lesion_and_neither_specks_nor_small_doubts_are() -> None:
    probability = np.zeros((20, 60, 60), np.float32)
    probability[5:9, 10:20, 10:20] = 0.9
    probability[5:9, 10:20, 25:30] = 0.9  # 5 mm away
    probability[5:9, 45:55, 45:55] = 0.8  # far
    probability[15, 5:7, 5:7] = 0.99
    probability[5:9, 10:20, 45:55] = 0.55  # doubtful all over
    probability[12:16, 30:55, 20:40] = 0.55  # doubtful, and large
    zones = lesion_regions(
        probability, (3.0, 1.0, 1.0), threshold=0.5, min_volume_ml=0.5, min_probability=0.7, large_volume_ml=5.0
    )
    assert zones.max() == 3
    assert zones[14, 40, 30] == 1
    assert zones[6, 15, 15] == zones[6, 15, 27] == 2
    assert zones[6, 50, 50] == 3
    assert zones[15, 5, 5] == zones[6, 15, 50] == 0


def test_lesions_do_not_depend_on_how_much_lies_around_them() -> None:
    probability = np.random.default_rng(2).random((10, 60, 50)).astype(np.float32)
    probability[:, 20:45] = 0
    probability[:, :, 22:40] = 0
    limits = {"threshold": 0.7, "min_volume_ml": 0.1, "min_probability": 0.5, "large_volume_ml": 1.0}
    wide = np.pad(probability, 12)
    zones = lesion_regions(wide, (2.5, 0.9, 1.1), **limits)
    assert zones.max() == 4
    for margin in (0, 1, 6):
        inner = slice(12 - margin, margin - 12)
        narrow = lesion_regions(wide[inner, inner, inner], (2.5, 0.9, 1.1), **limits)
        np.testing.assert_array_equal(narrow, zones[inner, inner, inner])


def test_the_side_is_counted_from_the_middle_of_the_head() -> None:
    outline = np.zeros((4, 20, 200), bool)
    outline[:, :, 60:180] = True
    for column, side in ((90, "right"), (150, "left"), (121, None)):
        spot = np.zeros_like(outline)
        spot[1, 5, column] = True
        assert side_of(spot, outline, 1.0) == side


def test_the_third_of_the_head_is_counted_on_the_slices_of_the_lesion() -> None:
    outline = np.zeros((4, 200, 20), bool)
    outline[0, 20:180] = True
    outline[1:, 80:140] = True
    for row, third in ((90, "anterior"), (110, "middle"), (130, "posterior")):
        spot = np.zeros_like(outline)
        spot[2, row, 5] = True
        assert third_of(spot, outline) == third


def test_figures_of_merit_agree_with_hand_counts() -> None:
    truth, shifted = np.zeros((1, 30, 30), bool), np.zeros((1, 30, 30), bool)
    truth[0, 5:15, 5:15] = True
    shifted[0, 5:15, 8:18] = True
    assert dice(shifted, truth) == pytest.approx(0.7)
    assert hd95(shifted, truth) == pytest.approx(3.0)
    shifted[0, 25:28, 25:28] = True
    assert count_lesions(shifted, truth, min_voxels=10) == (1, 1, 1)
