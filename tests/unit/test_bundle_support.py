"""Which bundles run, and the sentence with which the others are refused: shapes of the MONAI Model Zoo."""

from __future__ import annotations

import json
import pydoc
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import rewritten, write_bundle
from volume_series import VolumeSeries

from node.errors import PlatformError, WeightsError
from node.pipeline import Volume, content_digest
from pipelines.monai_bundle import create
from pipelines.monai_bundle.bundle_errors import check_packages, explained, missing_package

pytestmark = pytest.mark.filterwarnings("default")  # MONAI announces its own deprecations

FLAT = "[None, :, None, None, None]", "[None, :, None, None]"
PROMPTED = """
import torch


class Prompted:
    '''Gives, for each class that it is asked for, how far the image is above a fifth of the number of the class.'''

    def __call__(self, inputs, network, point_coords, point_labels, class_vector, labels=None):
        assert point_coords is None and point_labels is None
        return torch.cat([inputs - 0.2 * float(number) for number in class_vector[:, 0]], 1)
"""


def ball() -> VolumeSeries:
    """A bright ball of 6 voxels radius in 24 x 32 x 32 voxels of 2 mm."""
    affine = np.array([[0, 0, 2.0, 0], [0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]])
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (24, 32, 32)), indexing="ij"), -1)
    inside = np.linalg.norm(index - [12, 16, 16], axis=-1) < 6
    return VolumeSeries(Volume((150 * inside).astype(np.float32), affine, coordinate_system="PATIENT"))


def load(path: Path, **options):
    return create(weights=path, device="cpu", options={"sha256": content_digest(path), **options})


def labels(path: Path, **options) -> list[str]:
    return [segment.label for segment in load(path, **options).run(ball()).all_segments if segment.voxels.any()]


def image(**changes):
    """Change the only input in the metadata."""
    return lambda metadata: metadata["network_data_format"]["inputs"]["image"].update(changes)


def answer(**changes):
    return lambda metadata: metadata["network_data_format"]["outputs"]["pred"].update(changes)


def inputs(**formats):
    return lambda metadata: metadata["network_data_format"].update(inputs=formats)


def letters(*names: str) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (inputs(latent={"type": "noise"}), r"inputs\.latent\.type = noise: it makes images"),
        (inputs(latent={"type": "tuples", "format": "latent"}), r"inputs\.latent\.format = latent: it makes images"),
        (
            lambda metadata: metadata.update(
                network_data_format={}, generator_data_format={"inputs": {"latent": {"type": "noise"}}}
            ),
            r"inputs\.latent\.type = noise: it makes images",
        ),
        (lambda metadata: metadata.pop("network_data_format"), r"no network_data_format\.inputs"),
        (image(num_channels=2, channel_def=letters("moving image", "fixed image")), "registers one image with another"),
        (image(num_channels=3, channel_def=letters("R", "G", "B")), r"channel_def = R, G, B: it takes colour images"),
        (image(num_channels=3, format="RGB"), "format = RGB: it takes colour images"),
        (answer(type="tuples", format="points"), r"outputs\.pred\.format = points"),
        (answer(type="probabilities", format="classes"), r"names a class of the whole image \(background, spleen\)"),
        (answer(format="labels", spatial_shape=[1, 4]), "names a class of the whole image"),
        (image(spatial_shape=[256, 256]), r"spatial_shape = 256 x 256: it takes images of 2 dimensions"),
    ],
)
def test_a_bundle_of_a_kind_that_cannot_be_run_is_refused_before_its_code_runs(tmp_path, change, sentence):
    path = rewritten(tmp_path, "metadata", change)
    (path / "scripts" / "network.py").write_text("raise SystemExit('code ran')")
    with pytest.raises(WeightsError, match=sentence) as refusal:
        load(path)
    assert "\n" not in str(refusal.value)


def test_labels_of_voxels_are_no_class_of_the_image(tmp_path):
    assert labels(rewritten(tmp_path, "metadata", answer(format="labels", spatial_shape=[96, 96, 96]))) == ["spleen"]


def test_a_flat_network_gets_slices_when_the_bundle_itself_goes_by_slice(tmp_path):
    path = rewritten(tmp_path, "metadata", image(spatial_shape=[24, 24]))
    script, file = path / "scripts" / "network.py", path / "configs" / "inference.json"
    script.write_text(script.read_text().replace(*FLAT))
    config = json.loads(file.read_text())
    config["inferer"] = {"_target_": "SliceInferer", "roi_size": [24, 24], "spatial_dim": 2}
    file.write_text(json.dumps(config))
    assert labels(path) == ["spleen"]


def test_metadata_without_inputs_run_when_the_modality_is_given(tmp_path):
    path = rewritten(tmp_path, "metadata", lambda metadata: metadata["network_data_format"].pop("inputs"))
    assert load(path, modality="CT").needs.modalities == {"CT"}


def test_arguments_that_monai_no_longer_takes_are_left_out(tmp_path):
    def change(config):
        config["network_def"] |= {"_target_": "scripts.network.SwinUNETR", "img_size": 96}

    path = rewritten(tmp_path, "inference", change)
    script = path / "scripts" / "network.py"
    script.write_text(script.read_text().replace("Brighter", "SwinUNETR"))
    assert labels(path) == ["spleen"]


def test_devices_that_expressions_name_are_that_of_the_node(tmp_path):
    def change(config):
        config["beside"] = "$torch.zeros(1, device=torch.device('cuda')).device"
        config["network"] = "$@network_def.to(@beside)"

    assert labels(rewritten(tmp_path, "inference", change)) == ["spleen"]


class Sly:
    def __reduce__(self):
        return print, ("code ran",)


def test_expressions_read_arrays_and_only_with_unpickle_objects(tmp_path, capsys):
    def change(config):
        config["network_def"]["signs"] = "$torch.load(@bundle_root + '/models/plan.pt')['signs'].tolist()"

    path = rewritten(tmp_path, "inference", change)
    torch.save({"signs": np.array([-50.0, 50.0])}, path / "models" / "plan.pt")
    assert labels(path) == ["spleen"]
    torch.save({"signs": np.array([-50.0, 50.0]), "more": Sly()}, path / "models" / "plan.pt")
    with pytest.raises(ValueError, match=r"option unpickle = false: network of bundle"):
        load(path)
    assert "code ran" not in capsys.readouterr().out
    assert labels(path, unpickle=True) == ["spleen"]


def test_a_reader_that_is_not_installed_is_not_needed(tmp_path):
    def change(config):
        config["first"] = config["preprocessing"]["transforms"]
        config["first"][0]["reader"] = "ReaderOfNobody"
        config["preprocessing"]["transforms"] = "$@first + []"

    assert labels(rewritten(tmp_path, "inference", change)) == ["spleen"]


def test_channels_that_the_bundle_adds_itself_are_asked_for_and_then_left_to_it(tmp_path):
    path = rewritten(tmp_path, "metadata", image(num_channels=3, channel_def={"0": "image"}))
    with pytest.raises(ValueError, match=r'takes 3 channels, and metadata.json names one of them \(image\).*"this"'):
        load(path)
    assert labels(path, inputs=["this"]) == ["spleen"]


def test_preprocessing_of_other_images_is_refused(tmp_path):
    def change(config):
        for step in config["preprocessing"]["transforms"]:
            step["keys"] = ["artery", "vein"]

    with pytest.raises(WeightsError, match="begins with the keys artery, vein and not with the image 'image'"):
        load(rewritten(tmp_path, "inference", change))


def promptable(tmp_path: Path, **changes) -> Path:
    def change(config):
        config["inferer"] = {"_target_": "scripts.prompted.Prompted"}
        config["postprocessing"]["transforms"] = [
            {"_target_": "monai.apps.vista3d.transforms.VistaPostTransformd", "keys": "pred"},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "$copy.deepcopy(@preprocessing)",
                "orig_keys": "@image_key",
                "nearest_interp": True,
            },
        ]
        config["imports"].append("$import copy")
        config.update(changes)

    names = {"0": "background", "1": "liver", "3": "spleen", "9": "aorta"}
    path = rewritten(tmp_path, "inference", change, channels=names)
    (path / "scripts" / "prompted.py").write_text(PROMPTED)
    return path


def test_a_promptable_model_is_asked_for_the_classes_of_the_options_or_of_its_configuration(tmp_path):
    path = promptable(tmp_path, everything_labels=[1, 3])
    findings = load(path, classes=["spleen"]).run(ball())
    assert [segment.label for segment in findings.all_segments] == ["spleen"], "no segment for what was not asked for"
    np.testing.assert_allclose(np.argwhere(findings.segments[0].voxels).mean(axis=0), [12, 16, 16], atol=0.5)
    assert labels(path) == ["liver"], "which is further above its level than the spleen"
    with pytest.raises(ValueError, match="classes = 'kidney': the model has no such class"):
        load(path, classes=["kidney"])
    with pytest.raises(ValueError, match="option classes is missing"):
        load(promptable(tmp_path / "silent"))
    with pytest.raises(ValueError, match="always gives all of its classes"):
        load(write_bundle(tmp_path / "plain"), classes=["spleen"])


def test_an_inferer_that_waits_for_clicks_is_refused(tmp_path):
    path = promptable(tmp_path)
    script = path / "scripts" / "prompted.py"
    script.write_text(script.read_text().replace("point_labels, class_vector", "clicks, class_vector"))
    with pytest.raises(WeightsError, match="inferer Prompted also needs point_coords, clicks, class_vector"):
        load(path)


def test_a_package_that_is_not_installed_is_named_with_what_installs_it(tmp_path):
    path = write_bundle(tmp_path / "b")
    (path / "scripts" / "network.py").write_text("import package_of_nobody.layers")
    with pytest.raises(PlatformError, match=r"needs the package package_of_nobody, .* pip install package_of_nobody"):
        load(path)
    from monai.utils import optional_import  # not for every worker that collects

    lazy, _ = optional_import("package_of_nobody.layers", name="Rearrange")
    with pytest.raises(PlatformError, match="pip install package_of_nobody"), explained("b", "network", ""):
        lazy()
    within = ModuleNotFoundError("No module named 'cv2'", name="cv2")
    during = pydoc.ErrorDuringImport("scripts/parts.py", (type(within), within, None))
    assert "pip install opencv-python-headless" in str(missing_package("b", during))
    broken = ImportError("from torchvision.ops import nms (operator torchvision::nms does not exist).")
    assert "pip install 'ainode[detection]'" in str(missing_package("b", broken))
    assert missing_package("b", ImportError("cannot import name 'Gone'", name="monai.networks")) is None


def test_a_package_that_only_a_run_would_miss_is_named_at_loading(monkeypatch):
    from monai.transforms import KeepLargestConnectedComponentd  # not for every worker that collects

    steps = [KeepLargestConnectedComponentd(keys="pred"), torch.nn.Identity()]
    monkeypatch.setattr("pipelines.monai_bundle.bundle_errors.find_spec", lambda _: None)
    with pytest.raises(PlatformError, match="pip install scikit-image"):
        check_packages("b", steps)
    check_packages("b", steps[1:])


def network(**changes):
    return lambda config: config["network_def"].update(changes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            network(depth=4),
            r"network \(scripts\.network\.Brighter\) cannot be built: TypeError: .*'depth'; this node",
        ),
        (network(_target_="GoneNet"), r"network needs GoneNet, which is not available \(this node has monai 1\."),
        (lambda config: config.update(network="$1 / 0"), "network cannot be built: ZeroDivisionError"),
        (lambda config: config.update(network="$open(@bundle_root + '/plan').read()"), "plan does not exist; fetch"),
        (lambda config: (config.pop("network"), config.pop("network_def")), "has neither network nor network_def"),
        (network(signs=[1.0, 1.0, 1.0]), r"does not fit the bundle's network \(.*size mismatch for level"),
    ],
)
def test_what_cannot_be_built_is_named_in_one_line(tmp_path, change, sentence):
    with pytest.raises(WeightsError, match=sentence) as refusal:
        load(rewritten(tmp_path, "inference", change))
    assert "\n" not in str(refusal.value)


def test_lack_of_memory_stays_what_it_is(tmp_path):
    path = write_bundle(tmp_path / "b")
    script = path / "scripts" / "network.py"
    script.write_text(script.read_text().replace("super().__init__()", "raise MemoryError('full')"))
    with pytest.raises(MemoryError, match="full"):
        load(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        (b"PK\x03\x04 half of a file", "cannot be read"),
    ],
)
def test_weights_that_were_not_fetched_are_named(tmp_path, content, sentence):
    path = write_bundle(tmp_path / "b")
    (path / "models" / "model.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=sentence):
        load(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path, text):
    path = write_bundle(tmp_path / "b")
    (path / "configs" / "inference.json").write_text(text)
    with pytest.raises(WeightsError, match=r"inference\.json cannot be read"):
        load(path)
