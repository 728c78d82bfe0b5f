"""The nodule pipeline: pinned weights, true positions in every orientation, reasons instead of nonsense."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from volume_series import VolumeSeries

from node.errors import WeightsError
from node.pipeline import Unsuitable, Volume, codes
from pipelines.explain import SPREAD
from pipelines.nodule import create
from pipelines.nodule.appearance import MALIGNANCY, POSITION, SCORES, SOLID, TEXTURE
from pipelines.nodule.candidates import SLABS, Crop, crop_lungs, peaks, slabs
from pipelines.nodule.lungs import GRID_MM, find_lungs
from pipelines.nodule.network import CELL_MM, CandidateNet, OutlineNet
from pipelines.nodule.options import Options
from pipelines.nodule.pipeline import WEIGHTS, NodulePipeline
from pipelines.nodule.training.data import Cube, make_cube, targets
from pipelines.nodule.training.insertion import Shape, insert, tube
from pipelines.nodule.training.outlines import FIELD
from pipelines.nodule.training.scans import background
from pipelines.nodule.training.slice_figures import thickened

NODULE_LPS = np.array([52.0, -8.0, 24.0])
"""In the left lung; the centre of the phantom is the origin."""
SPACING = (2.5, 1.2, 1.2)


@pytest.fixture(scope="module")
def pipeline() -> NodulePipeline:
    torch.set_num_threads(1)
    return create(weights=None, device="cpu", options={})


@cache
def chest(*, nodule: bool = True, lungs: bool = True) -> Volume:
    """Axial phantom, HPL: a body with two lungs, some vessels in them and, if asked, a nodule of 14 mm."""
    shape = (44, 170, 240)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = SPACING
    affine[3, 3] = 1
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(np.float32)
    lps = index @ affine[:3, :3].T.astype(np.float32) + affine[:3, 3].astype(np.float32)
    rng = np.random.default_rng(5)
    hu = np.full(shape, -1000.0, np.float32)
    hu[((lps[..., :2] / (140, 100)) ** 2).sum(-1) < 1] = 40
    if lungs:
        for side in (-1, 1):
            hu[(((lps - (62 * side, 0, 0)) / (48, 72, 85)) ** 2).sum(-1) < 1] = -870
        for _ in range(24):
            start, along = rng.uniform((-95, -45, -50), (95, 45, 50)), rng.normal(size=3)
            path = start + np.linspace(-30, 30, 200)[:, None] * along / np.linalg.norm(along)
            at = np.round((path - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
            at = at[((at >= 1) & (at < np.array(shape) - 1)).all(1)]
            for row, column in ((0, 0), (0, 1), (1, 0)):
                spot = (at[:, 0], at[:, 1] + row, at[:, 2] + column)
                hu[spot] = np.where(hu[spot] < -500, 0, hu[spot])
    if nodule:
        hu[((lps - NODULE_LPS) ** 2).sum(-1) < 7.0**2] = 30
    hu = ndimage.gaussian_filter(hu, (0.3, 0.6, 0.6)) + rng.normal(0, 12, shape)
    return Volume(hu.astype(np.float32), affine, "PATIENT", "1.2.3")


@pytest.mark.thorough
@pytest.mark.parametrize("orientation", ["HPL", "PFR"])
def test_a_nodule_comes_back_where_it_is_in_the_patient(pipeline: NodulePipeline, orientation: str) -> None:
    findings = pipeline.run(VolumeSeries(chest().to_patient_orientation(orientation)))
    assert findings.maps == (), "nobody asked"
    lesion = findings.lesions[0]
    mask = lesion.segment.mask
    centre = mask.map_indices_to_reference(np.argwhere(mask.array > 0).astype(float)).mean(axis=0)
    assert np.linalg.norm(centre - NODULE_LPS) < 3
    assert 0.5 * 1.437 < mask.array.sum() * mask.voxel_volume / 1000 < 2 * 1.437  # ml of a sphere of 14 mm
    assert lesion.laterality == codes.SCT.Left
    assert lesion.segment.label == "Nodule 1"
    assert lesion.evaluations[TEXTURE] == SOLID
    assert POSITION not in lesion.evaluations, "both ends of the lungs are outside of these images"
    assert MALIGNANCY not in lesion.evaluations, "an opinion that nobody asked for"
    assert lesion.probability is not None
    assert lesion.probability >= pipeline.options.threshold
    assert findings.embedding_space is not None
    assert len(lesion.embedding) == findings.embedding_space.dimensions


@pytest.mark.thorough
def test_malignancy_is_asked_for_and_said_to_be_an_opinion() -> None:
    asked = create(weights=None, device="cpu", options={"malignancy": True}).run(VolumeSeries(chest()))
    judged = {name.meaning: value for name, value in asked.lesions[0].evaluations.items()}
    (opinion,) = [value for name, value in judged.items() if "readers' opinion (LIDC), no pathology" in name]
    assert opinion in SCORES


@pytest.mark.thorough
def test_the_heat_map_is_asked_for_and_is_hot_where_the_nodule_is() -> None:
    findings = create(weights=None, device="cpu", options={"maps": True}).run(VolumeSeries(chest()))
    heat, spread = findings.maps
    hottest = np.argwhere(heat.volume.array == heat.volume.array.max()).astype(float)
    place = heat.volume.map_indices_to_reference(hottest).mean(axis=0)
    assert np.linalg.norm(place - NODULE_LPS) < 4, "one cell"
    assert 0 <= heat.volume.array.min() < 0.01
    assert 0.5 < heat.volume.array.max() <= 1
    (measured,) = findings.lesions[0].measurements
    assert measured.name == SPREAD
    assert 0 < measured.value < 50
    assert spread.volume.array.max() <= 0.5
    assert spread.volume.array.shape == heat.volume.array.shape


@pytest.mark.thorough
def test_the_mirrored_nodule_is_in_the_right_lung(pipeline: NodulePipeline) -> None:
    plain = chest()
    mirrored = plain.with_array(np.ascontiguousarray(plain.array[:, :, ::-1]))
    assert pipeline.run(VolumeSeries(mirrored)).lesions[0].laterality == codes.SCT.Right


def test_images_without_lungs_are_unsuitable(pipeline: NodulePipeline) -> None:
    with pytest.raises(Unsuitable, match="No aerated lung"):
        pipeline.run(VolumeSeries(chest(nodule=False, lungs=False)))


def test_an_abdomen_with_gas_and_the_recess_of_a_lung_is_unsuitable(pipeline: NodulePipeline) -> None:
    volume = chest(nodule=False, lungs=False)
    noisy = volume.array + np.random.default_rng(1).normal(0, 15, volume.array.shape).astype(np.float32)
    noisy[:, :20][:, ::2] = -870  # a blanket, as dense as lung, on top of the patient
    noisy[:8, 100:120, 40:80] = -850
    with pytest.raises(Unsuitable, match="No aerated lung"):
        pipeline.run(VolumeSeries(volume.with_array(noisy)))


def test_coarse_voxels_are_unsuitable(pipeline: NodulePipeline) -> None:
    coarse = Volume(np.zeros((30, 64, 64), np.float32), np.diag([9.0, 4.0, 4.0, 1.0]), "PATIENT", "1.2.3")
    with pytest.raises(Unsuitable, match=r"Voxels of 9\.0 mm"):
        pipeline.run(VolumeSeries(coarse))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("step", "said"), [(5.0, "small nodules may not be visible"), (8.0, "a third of the nodules of 6 to 10 mm")]
)
def test_what_thick_slices_lose_is_said(pipeline: NodulePipeline, step: float, said: str) -> None:
    fine = chest()
    array = thickened(np.ascontiguousarray(fine.array), SPACING[0], step)
    affine = fine.affine.copy()
    affine[:3, 0] *= step / SPACING[0]
    findings = pipeline.run(VolumeSeries(Volume(array, affine, "PATIENT", "1.2.3")))
    (remark,) = [r for r in findings.remarks if "mm apart" in r]
    assert said in remark
    assert f"{step:.1f} mm" in remark
    assert step <= (pipeline.needs.max_slice_spacing_mm or 0)


@pytest.mark.thorough
def test_findings_are_limited_to_the_most_probable() -> None:
    eager = create(weights=None, device="cpu", options={"threshold": 0.01, "min_diameter_mm": 0, "max_findings": 2})
    findings = eager.run(VolumeSeries(chest()))
    first, second = (lesion.probability or 0.0 for lesion in findings.lesions)
    assert first >= second
    assert any("the 2 most probable are reported" in remark for remark in findings.remarks)


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "weights.safetensors"
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    copy.with_suffix(".sha256").write_text(WEIGHTS.with_suffix(".sha256").read_text())
    with pytest.raises(WeightsError, match="SHA-256"):
        create(weights=copy, device="cpu", options={})


def test_the_algorithm_names_its_weights_and_settings(pipeline: NodulePipeline) -> None:
    assert pipeline.algorithm.weights_sha256 == WEIGHTS.with_suffix(".sha256").read_text().split()[0]
    assert pipeline.algorithm.parameters["threshold"] == str(pipeline.options.threshold)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"treshold": 0.5}, "treshold = 0.5 is unknown; did you mean threshold?"),
        ({"colour": "red"}, "colour = 'red' is unknown; use one of threshold"),
        ({"threshold": 1.5}, "threshold is 1.5; use a number above 0"),
        ({"threshold": "high"}, "threshold is 'high'; give a number"),
        ({"max_findings": 2.5}, "max_findings is 2.5; give a number (int)"),
        ({"maps": 1}, "maps is 1; give true or false"),
        ({"max_findings": 0}, "max_findings is 0; use 1 to 50"),
        ({"min_diameter_mm": -1}, "min_diameter_mm is -1; use 0 to 30 mm"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        Options.read(options)


def test_networks_answer_per_cell_and_per_pixel() -> None:
    with torch.inference_mode():
        assert CandidateNet().eval()(torch.zeros(1, 1, 48, 32, 64)).shape == (1, 5, 12, 8, 16)
        assert OutlineNet().eval()(torch.zeros(2, 4, FIELD, FIELD)).shape == (2, 1, FIELD, FIELD)
    assert sum(p.numel() for p in CandidateNet().parameters()) < 1e6


def test_lungs_are_found_and_their_midline_is_between_them() -> None:
    volume = chest()
    lungs = find_lungs(volume.array, SPACING)
    assert lungs is not None
    millilitres = lungs.mask.sum() * GRID_MM**3 / 1000
    assert 1800 < millilitres < 3200  # the two ellipsoids, in 110 mm, have about 2 l
    assert abs(lungs.midline - (lungs.mask.shape[2] - 1) / 2) < 2


@pytest.mark.parametrize("kept", SLABS)
def test_slabs_cover_every_cell_once(kept: int) -> None:
    for length in (16, 96, 112, 272, 400):
        places = [place for _, _, place in slabs(length, kept)]
        covered = np.concatenate([np.arange(p.start, p.stop) for p in places])
        assert covered.tolist() == list(range(length // int(CELL_MM)))
        for compute, keep, place in slabs(length, kept):
            assert compute.start % 16 == 0
            assert (compute.stop - compute.start) % 16 == 0
            assert compute.start // 4 + keep.start == place.start


@pytest.mark.thorough
def test_a_peak_leads_back_to_its_place_in_the_source() -> None:
    volume = chest()
    lungs = find_lungs(volume.array, SPACING)
    assert lungs is not None
    crop = crop_lungs(volume.array, SPACING, lungs)
    place = volume.map_reference_to_indices(NODULE_LPS[None])[0]
    grid = (place - crop.origin + 0.5) / crop.scale - 0.5
    cube = Cube(
        hu=np.zeros((400,) * 3, np.float32),
        nodules=np.array([[*grid, 14.0]], np.float32),
        ignored=np.zeros((400,) * 3, bool),
    )
    heat, values, _ = targets(cube)
    cells = tuple(slice(0, n // 4) for n in crop.hu.shape)
    ideal = np.concatenate([np.log(heat.clip(1e-6, 1 - 1e-6) / (1 - heat.clip(1e-6, 1 - 1e-6)))[None], values])
    (candidate,) = peaks(ideal[(slice(None), *cells)], crop, 0.3)
    assert np.abs(np.array(candidate.centre) - place).max() < 0.2
    assert candidate.diameter_mm == pytest.approx(14.0, rel=0.01)


def test_of_two_overlapping_peaks_the_better_one_stays() -> None:
    heat = np.full((5, 8, 8, 8), -20.0, np.float32)
    heat[1:] = 0
    heat[1] = np.log(20.0)
    heat[0, 2, 2, 2], heat[0, 4, 2, 2], heat[0, 7, 7, 7] = 3.0, 2.0, 1.0
    crop = Crop(hu=torch.zeros(32, 32, 32), inside=np.ones((8, 8, 8), bool), origin=np.zeros(3), scale=np.ones(3))
    assert [round(c.score, 2) for c in peaks(heat, crop, 0.1)] == [0.95, 0.73]


def test_a_thick_slice_dilutes_a_small_nodule() -> None:
    shape = Shape(
        cover=np.pad(np.ones((3, 3, 3), np.float32), 2), texture=np.zeros((7, 7, 7), np.float32), diameter_mm=3
    )
    thin, thick = (np.full((9, 20, 20), -900.0, np.float32) for _ in range(2))
    insert(thin, shape, (4.0, 10, 10), 1.0, 1.0)
    insert(thick, shape, (20.0, 10, 10), 5.0, 5.0)
    assert thin[4, 10, 10] == pytest.approx(0, abs=1)
    assert thick[4, 10, 10] == pytest.approx(-900 * 2 / 5, abs=30)
    assert (thick[[3, 5], 10, 10] == -900).all()


@pytest.mark.thorough
def test_a_cube_has_its_nodules_where_the_labels_say() -> None:
    ground = background(chest(nodule=False))
    rng = np.random.default_rng(3)
    brighter = []
    for _ in range(24):
        cube = make_cube(rng, [ground], [])
        for z, y, x, diameter in cube.nodules:
            at = np.round([z, y, x]).astype(int)
            if diameter > 7 and (at > 2).all() and (at < 77).all():
                away = np.linalg.norm(np.indices(cube.hu.shape) - at[:, None, None, None], axis=0)
                brighter.append(cube.hu[away < diameter / 2].mean() > -760)  # the middle of a cavity is air
    assert len(brighter) >= 3
    assert all(brighter)


def test_a_tube_is_no_nodule() -> None:
    assert tube(np.random.default_rng(1)).diameter_mm == 0


def test_the_heat_map_peaks_at_the_nodule_and_ignored_cells_weigh_nothing() -> None:
    ignored = np.zeros((32,) * 3, bool)
    ignored[20:, 20:, 20:] = True
    cube = Cube(
        hu=np.zeros((32,) * 3, np.float32), nodules=np.array([[9.5, 13.5, 5.5, 6.0]], np.float32), ignored=ignored
    )
    heat, values, weight = targets(cube)
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 3, 1)
    assert np.exp(values[0, 2, 3, 1]) == pytest.approx(6.0)
    assert values[1:, 2, 3, 1] == pytest.approx(np.zeros(3), abs=1e-5)
    assert weight[7, 7, 7] == 0
    assert weight[0, 0, 0] == 1
