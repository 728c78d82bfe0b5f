"""The adapter for MONAI Bundles: other people's packaging, our geometry."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from bundles import rewritten, write_bundle
from scipy.spatial.transform import Rotation
from volume_series import VolumeSeries

from node.errors import WeightsError
from node.pipeline import Unsuitable, Volume, content_digest
from node.results.analysis import outcome_of
from pipelines.monai_bundle import create

CENTRE = (4.0, -6.0, 10.0)
pytestmark = pytest.mark.filterwarnings("default")  # MONAI announces its own deprecations


def ball_volume(orientation: str = "HPL", *, tilt: float = 0.0) -> Volume:
    """A ball of 12 mm radius, 150, at ``CENTRE`` (LPS mm) in 0; voxels 2 x 1.1 x 1 mm, at will oblique."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [tilt, -tilt, 1.5 * tilt], degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0]]) @ np.diag([2.0, 1.1, 1.0])
    affine[:3, 3] = CENTRE - affine[:3, :3] @ [12, 22, 24]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (25, 45, 49)), indexing="ij"), -1)
    inside = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - CENTRE, axis=-1) < 12
    volume = Volume((150 * inside).astype(np.float32), affine, coordinate_system="PATIENT")
    return volume.to_patient_orientation(orientation)


def load(path: Path, **options):
    return create(weights=path, device="cpu", options={"sha256": content_digest(path), **options})


def centroid(mask: Volume) -> np.ndarray:
    return (mask.affine @ np.append(np.argwhere(mask.array).mean(axis=0), 1))[:3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "spleen")


@pytest.mark.parametrize(
    ("orientation", "tilt"), [("HPL", 0.0), ("FAR", 0.0), ("LHA", 0.0), ("HPL", 14.0), ("PHR", 9.0)]
)
def test_a_structure_comes_back_where_it_lies_in_any_orientation(bundle, orientation, tilt):
    volume = ball_volume(orientation, tilt=tilt)
    (segment,) = load(bundle).run(VolumeSeries(volume)).segments
    assert segment.mask.array.shape == volume.array.shape
    truth = volume.array > 75
    assert 2 * (truth & (segment.mask.array > 0)).sum() / (truth.sum() + segment.mask.array.sum()) > 0.93
    np.testing.assert_allclose(centroid(segment.mask), CENTRE, atol=0.3)
    assert (segment.label, segment.type.meaning) == ("spleen", "Spleen")


def test_the_masks_equal_those_of_the_bundles_own_chain_of_files(bundle, tmp_path):
    volume = ball_volume(tilt=11.0)
    noisy = volume.with_array(
        volume.array + np.random.default_rng(4).normal(0, 60, volume.array.shape).astype(np.float32)
    )
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = nibabel.Nifti1Image(noisy.array.transpose(2, 1, 0), to_ras @ noisy.affine[:, [2, 1, 0, 3]])
    nibabel.save(image, tmp_path / "image.nii")
    stored = nibabel.load(tmp_path / "image.nii").affine  # as the file rounds it
    noisy = Volume(noisy.array, (to_ras @ stored)[:, [2, 1, 0, 3]], coordinate_system="PATIENT")
    own = shutil.copytree(bundle, tmp_path / "own")
    (own / "scripts").rename(own / "scripts_of_test")  # this test imports it under a name of its own
    text = (own / "configs" / "inference.json").read_text().replace("scripts.", "scripts_of_test.")
    (own / "configs" / "inference.json").write_text(text)

    from monai.bundle import ConfigParser  # not for every worker that collects
    from monai.data import decollate_batch

    parser = ConfigParser()
    parser.read_config(str(own / "configs" / "inference.json"))
    parser["bundle_root"], parser["device"] = str(own), "$torch.device('cpu')"
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.syspath_prepend(str(own))
        network = parser.get_parsed_content("network_def")
        network.load_state_dict(torch.load(own / "models" / "model.pt", weights_only=True)["model"])
        data = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "image.nii")})
        answer = parser.get_parsed_content("inferer")(data["image"][None], network)
        parser.get_parsed_content("postprocessing")({**data, "pred": decollate_batch(answer)[0]})
    (written,) = (own / "eval").glob("*.nii.gz")
    expected = np.asarray(nibabel.load(written).dataobj).transpose(2, 1, 0)

    (segment,) = load(bundle).run(VolumeSeries(noisy)).segments

    assert 0.02 < expected.mean() < 0.9
    assert (segment.mask.array == expected).mean() >= 0.9999


def test_a_zip_file_is_run_like_the_folder_it_packs(bundle, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "spleen"), "zip", bundle.parent, bundle.name))
    (from_zip,) = load(archive).run(VolumeSeries(ball_volume())).segments
    (from_folder,) = load(bundle).run(VolumeSeries(ball_volume())).segments
    np.testing.assert_array_equal(from_zip.mask.array, from_folder.mask.array)


def test_overlapping_classes_become_overlapping_segments(tmp_path):
    names = {"0": "Whole tumor", "1": "Enhancing tumor"}
    path = write_bundle(tmp_path / "b", levels=(0.2, 0.6), channels=names, sigmoid=True)
    findings = load(path).run(VolumeSeries(ball_volume()))
    segments = [lesion.segment for lesion in findings.lesions]
    assert [s.label for s in segments] == ["Whole tumor", "Enhancing tumor"]
    whole, enhancing = (s.voxels for s in segments)
    assert enhancing.any()
    assert not (enhancing & ~whole).any()
    assert {s.type.meaning for s in segments} == {"Neoplasm"}
    assert findings.segments == ()


def test_a_model_of_several_images_gets_the_companions_on_the_grid_of_the_series(tmp_path):
    pipeline = load(write_bundle(tmp_path / "b", inputs=2), inputs=["t1", "this"])  # the network looks at the first
    volume = ball_volume()
    blank = volume.with_array(np.zeros_like(volume.array))
    others = {"t1": VolumeSeries(ball_volume("LHA"))}
    (segment,) = pipeline.run(VolumeSeries(blank, companions=others)).segments
    np.testing.assert_allclose(centroid(segment.mask), CENTRE, atol=0.3)
    with pytest.raises(Unsuitable, match="'t1'"):
        pipeline.run(VolumeSeries(volume))


def test_what_a_bundle_outlines_and_looks_for_decides_the_outcome(bundle, tmp_path):
    ball = VolumeSeries(ball_volume())
    nothing = VolumeSeries(ball_volume().with_array(np.zeros_like(ball_volume().array)))
    organ, sought = load(bundle), load(bundle, looked_for=["spleen"])
    assert outcome_of(organ.run(ball)) == "measured", "a normal spleen is no finding"
    assert outcome_of(organ.run(nothing)) == "measured"
    assert [s.label for s in organ.run(nothing).segments] == ["spleen"], "named, although it is not there"
    assert outcome_of(sought.run(ball)) == "findings"
    assert outcome_of(sought.run(nothing)) == "no findings"
    tumor = write_bundle(tmp_path / "b", channels={"0": "background", "1": "liver tumor"})
    assert outcome_of(load(tumor).run(ball)) == "findings", "an outline of a tumor is one, whatever was configured"
    assert outcome_of(load(tumor).run(nothing)) == "measured", "nobody said that it was looked for"
    assert outcome_of(load(tumor, looked_for=["liver tumor"]).run(nothing)) == "no findings"
    with pytest.raises(ValueError, match="looked_for = 'tumour': the model has no such class"):
        load(tumor, looked_for=["tumour"])


def test_boxes_become_lesions_at_their_place_with_their_score(tmp_path):
    path = write_bundle(tmp_path / "b", detection=True)
    findings = load(path).run(VolumeSeries(ball_volume("FAR", tilt=8.0)))
    (lesion,) = findings.lesions
    np.testing.assert_allclose(centroid(lesion.segment.mask), CENTRE, atol=1.0)
    volume_ml = lesion.segment.mask.array.sum() * 2.2 / 1000
    assert volume_ml == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.25)
    assert lesion.probability == pytest.approx(0.72, abs=0.05)
    assert (lesion.segment.label, lesion.finding.meaning, lesion.site.meaning) == ("Nodule 1", "Nodule", "Lung")
    assert "boxes" in findings.remarks[0]
    none = load(path, min_score=0.9).run(VolumeSeries(ball_volume()))
    assert (none.lesions, outcome_of(none)) == ((), "no findings"), "a detector looks for what it detects"


def test_two_bundles_in_one_process_keep_their_own_code(bundle, tmp_path):
    other = write_bundle(tmp_path / "other")
    source = (other / "scripts" / "network.py").read_text()
    (other / "scripts" / "network.py").write_text(source.replace("* self.signs", "* -self.signs"))
    first, second = load(bundle), load(other)
    ball = VolumeSeries(ball_volume())
    (segment,) = first.run(ball).segments
    (inverse,) = second.run(ball).segments
    assert segment.mask.array.sum() < inverse.mask.array.sum()


def test_running_a_bundle_leaves_its_digest_as_it_was(bundle):
    before = content_digest(bundle)
    load(bundle).run(VolumeSeries(ball_volume()))
    assert content_digest(bundle) == before


def test_an_override_changes_the_bundles_configuration(bundle):
    level = load(bundle, overrides={"preprocessing#transforms#4#a_max": 2000}).run(VolumeSeries(ball_volume()))
    assert not any(segment.voxels.any() for segment in level.segments)


def test_identity_and_needs_come_from_the_metadata(bundle):
    pipeline = load(bundle)
    assert (pipeline.algorithm.name, pipeline.algorithm.version) == ("organ segmentation of the tests", "1.2.3")
    assert pipeline.algorithm.weights_sha256 == content_digest(bundle)
    assert pipeline.needs.modalities == {"CT"}


def test_structures_can_be_given_other_codes(bundle):
    (segment,) = (
        load(bundle, structures={"spleen": ["1", "99TEST", "My spleen"]}).run(VolumeSeries(ball_volume())).segments
    )
    assert tuple(segment.type)[:3] == ("1", "99TEST", "My spleen")


class Sly:
    def __reduce__(self):
        return print, ("code ran",)


def test_weights_that_are_code_are_refused_unless_the_operator_says_so(tmp_path, capsys):
    path = write_bundle(tmp_path / "b")
    good = torch.load(path / "models" / "model.pt", weights_only=True)
    torch.save({**good, "extra": Sly()}, path / "models" / "model.pt")
    with pytest.raises(ValueError, match="unpickle = true"):
        load(path)
    assert "code ran" not in capsys.readouterr().out
    assert load(path, unpickle=True).run(VolumeSeries(ball_volume())).segments


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "configs" / "inference.json").write_text("{}"), "has SHA-256"),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_an_altered_or_missing_bundle_is_refused(tmp_path, damage, message):
    path = write_bundle(tmp_path / "b")
    digest = content_digest(path)
    damage(path)
    with pytest.raises(WeightsError, match=message):
        create(weights=path, device="cpu", options={"sha256": digest})


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[]", "metadata.json: "),
        ("[" * 100_000, "metadata.json: "),
        ('{"network_data_format": 1}', "metadata.json.network_data_format: "),
        ('{"network_data_format": {"inputs": {"image": 1}}}', "network_data_format.inputs.image: "),
        ('{"network_data_format": {"inputs": {"image": {"num_channels": "two"}}}}', "metadata.json.num_channels: "),
        ('{"network_data_format": {"outputs": {"pred": {"channel_def": {"one": "spleen"}}}}}', "channel_def.one"),
        ('{"task": "%a"}', "refers to an id that the bundle does not have"),
    ],
)
def test_metadata_of_another_form_are_named_with_their_place(tmp_path, content, where):
    path = write_bundle(tmp_path / "b")
    (path / "configs" / "metadata.json").write_text(content)
    with pytest.raises(WeightsError, match=where):
        load(path)


def test_a_bundle_without_its_large_files_says_so(tmp_path):
    path = write_bundle(tmp_path / "b")
    (path / "models" / "model.pt").unlink()
    with pytest.raises(WeightsError, match="large files"):
        load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"treshold": 1}, "treshold"),
        ({"sha256": "12"}, "sha256 = '12'"),
        ({"config": "training"}, "no such configuration; use one of inference"),
        ({"structures": {"spleen": ["1"]}}, "structures.spleen"),
        ({"min_score": 2.0}, "min_score = 2.0"),
        ({"inputs": ["T1", "T2"]}, "takes 1 images"),
    ],
)
def test_a_bad_option_is_refused_with_a_remedy(bundle, options, message):
    with pytest.raises(ValueError, match=message):
        load(bundle, **options)


def labels(findings) -> list[str]:
    return [segment.label for segment in findings.all_segments]


def test_weights_that_the_handlers_load_are_used(tmp_path):
    def change(config):
        loader = {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/final.pt'", "load_dict": {}}
        config["handlers"] = [{"_target_": "StatsHandler"}, loader]

    path = rewritten(tmp_path, "inference", change)
    (path / "models" / "model.pt").rename(path / "models" / "final.pt")
    torch.save({"model": {"level": torch.tensor([9.0, 9.0])}}, path / "models" / "model.pt")  # of another epoch
    assert labels(load(path).run(VolumeSeries(ball_volume()))) == ["spleen"]


def test_classes_are_read_from_label_def(tmp_path):
    def change(metadata):
        metadata["network_data_format"]["outputs"]["pred"] = {
            "channel_def": {"0": "image"},
            "label_def": {"0": "background", "1": "liver"},
        }

    path = rewritten(tmp_path, "metadata", change)
    assert labels(load(path).run(VolumeSeries(ball_volume()))) == ["liver"]


@pytest.mark.parametrize(("stated", "modality"), [("MRI", "MR"), ("mr", "MR"), ("CT", "CT"), ("PET/CT", "PT")])
def test_the_modality_is_that_of_dicom(tmp_path, stated, modality):
    def change(metadata):
        metadata["network_data_format"]["inputs"]["image"]["modality"] = stated

    assert load(rewritten(tmp_path, "metadata", change)).needs.modalities == {modality}


@pytest.mark.parametrize("stated", ["none", "n/a", "", None, "histology"])
def test_a_modality_that_is_none_is_asked_for(tmp_path, stated):
    def change(metadata):
        metadata["network_data_format"]["inputs"]["image"]["modality"] = stated

    path = rewritten(tmp_path, "metadata", change)
    with pytest.raises(ValueError, match="option modality is missing"):
        load(path)
    assert load(path, modality="MR").needs.modalities == {"MR"}


def test_transforms_that_are_an_expression_lose_their_loader(tmp_path):
    def change(config):
        config["first"] = config["preprocessing"]["transforms"][:2]
        config["others"] = config["preprocessing"]["transforms"][2:]
        config["preprocessing"]["transforms"] = "$@first + @others"
        config["last"] = config["postprocessing"]["transforms"]
        config["postprocessing"]["transforms"] = "$@last"

    path = rewritten(tmp_path, "inference", change)
    assert labels(load(path).run(VolumeSeries(ball_volume()))) == ["spleen"]
    assert not (path / "eval").exists()
