"""The region of the body that a CT shows: recognized in its pixels, unknown where these are not clear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from body_region_series import chest_series
from dicom_files import CORONAL, ct_series, mr_series, write
from enhanced_files import enhanced
from pydicom import FileDataset

from node.config.characteristics import BODY_REGION, CHARACTERISTICS, UNKNOWN
from node.errors import WeightsError
from node.studies.body_region import network
from node.studies.body_region.network import CLASSES, class_probabilities
from node.studies.body_region.recognition import SLICES, body_region_of
from node.studies.body_region.slice_image import AIR_HU, MM, SIZE, scaled
from node.studies.body_region.verdict import DISAGREEMENT, regions_of_slices
from node.studies.characteristics import Certainty, Characteristic


def recognized(images: list[FileDataset], folder: Path) -> Characteristic:
    return body_region_of(write(images, folder))


def slices(*names: str, probability: float = 0.95) -> np.ndarray:
    """Probabilities of slices that show this; ``?``: not clear."""
    rows = np.full((len(names), len(CLASSES)), 0.01, np.float32)
    for row, name in zip(rows, names, strict=True):
        row[0 if name == "?" else CLASSES.index(name)] = 0.5 if name == "?" else probability
    return rows


def test_a_chest_is_recognized_whatever_its_header_says(tmp_path: Path) -> None:
    characteristic = recognized(chest_series(BodyPartExamined="ABDOMEN"), tmp_path)
    assert (characteristic.values, characteristic.certainty) == (("chest",), Certainty.LIKELY)
    assert characteristic.basis[-2:] == (("BodyPartExamined", "ABDOMEN"), DISAGREEMENT)
    of_pixels = dict(characteristic.basis)["pixels"]
    assert of_pixels.startswith("chest ")
    assert of_pixels.endswith("of 8 slices")


def test_headers_that_name_another_region_of_the_same_series_do_not_disagree() -> None:
    of = slices(*["chest"] * 6, *["abdomen"] * 4)
    for value in ("CHEST", "ABDOMEN", "Chest Abdomen", "WHOLEBODY", "PARTIALBODY", "KNEE"):
        assert regions_of_slices(of, None, [value]).basis[-1] == ("BodyPartExamined", value)
    assert regions_of_slices(of, None, ["HEAD"]).basis[-1] == DISAGREEMENT
    assert DISAGREEMENT not in regions_of_slices(of, None, []).basis


@pytest.mark.parametrize("attribute", ["BodyPartExamined", "ImagePositionPatient", "ImageOrientationPatient"])
def test_it_is_recognized_without_an_attribute(tmp_path: Path, attribute: str) -> None:
    images = chest_series()
    for image in images:
        delattr(image, attribute)
    assert recognized(images, tmp_path).values == ("chest",)


def test_a_patient_on_the_belly_is_seen_like_one_on_the_back(tmp_path: Path) -> None:
    images = chest_series()
    for image in images:
        image.PixelData = np.ascontiguousarray(image.pixel_array[::-1, ::-1]).tobytes()
        image.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        image.ImagePositionPatient = [190.0, 190.0, image.ImagePositionPatient[2]]
    assert recognized(images, tmp_path / "a") == recognized(chest_series(), tmp_path / "b")


def test_frames_of_an_enhanced_image_are_slices_too(tmp_path: Path) -> None:
    assert recognized(enhanced(chest_series()), tmp_path).values == ("chest",)


def _without_spacing() -> list[FileDataset]:
    images = chest_series()
    for image in images:
        del image.PixelSpacing
    return images


def _of_spacing(mm: float) -> list[FileDataset]:
    images = chest_series()
    for image in images:
        image.PixelSpacing = [mm, mm]
    return images


def _cut_off() -> list[FileDataset]:
    images = chest_series()
    for image in images:
        image.PixelData = image.PixelData[:100]
    return images


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (lambda: mr_series(3, 16), "axial CT slices"),
        (lambda: ct_series(3, 16, orientation=CORONAL), "axial CT slices"),
        (_without_spacing, "PixelSpacing is absent"),
        (lambda: _of_spacing(0.0001), "PixelSpacing 0.0001"),
        (lambda: _of_spacing(500.0), "PixelSpacing 500"),
        (_cut_off, "cannot be decoded"),
        (lambda: ct_series(6, 32), "unclear 6 of 6 slices"),
    ],
    ids=["MR", "coronal", "no spacing", "tiny spacing", "huge spacing", "cut off", "noise"],
)
def test_what_cannot_be_recognized_is_unknown_with_the_reason(
    tmp_path: Path, images: Callable[[], list[FileDataset]], why: str
) -> None:
    characteristic = recognized(images(), tmp_path)
    assert (characteristic.values, characteristic.certainty) == ((UNKNOWN,), Certainty.UNKNOWN)
    assert why in str(characteristic.basis)


def test_files_that_are_no_dicom_and_a_few_broken_images_hide_no_others(tmp_path: Path) -> None:
    images = chest_series()
    images[2].PixelData = b"\0\0"
    paths = write(images, tmp_path)
    paths[0].write_bytes(b"no DICOM")
    assert body_region_of(paths).values == ("chest",)
    assert body_region_of(paths[:1]).values == (UNKNOWN,)
    assert body_region_of([tmp_path / "absent"]).values == (UNKNOWN,)


def test_the_region_with_most_slices_comes_first_and_one_slice_is_none() -> None:
    of = slices(*["neck"], *["chest"] * 3, *["abdomen"] * 7)
    assert regions_of_slices(of, None, []).values == ("abdomen", "chest")
    assert regions_of_slices(of[:2], None, []).values == ("neck", "chest"), "of two slices each counts"


@pytest.mark.parametrize("names", [["?"] * 3, ["other"] * 8, ["chest"] * 5 + ["?"] * 6, ["chest"] * 4 + ["other"] * 5])
def test_no_region_is_named_unless_half_of_the_slices_are_clear(names: list[str]) -> None:
    assert regions_of_slices(slices(*names), None, []).values == (UNKNOWN,)


def test_slices_in_an_order_that_no_body_has_are_unknown() -> None:
    of = slices(*["chest"] * 3, *["pelvis"] * 2, *["chest"] * 3)
    heights = [-10.0 * n for n in range(8)]
    assert regions_of_slices(of, None, []).values == ("chest", "pelvis")
    characteristic = regions_of_slices(of, heights, [])
    assert characteristic.values == (UNKNOWN,)
    assert ("order of the slices", "not that of a body") in characteristic.basis
    upright = slices(*["chest"] * 4, *["abdomen"] * 4)
    assert regions_of_slices(upright, heights, []).values == ("chest", "abdomen")
    assert regions_of_slices(upright[::-1], heights, []).values == (UNKNOWN,)


def test_a_long_series_costs_no_more_than_a_dozen_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    original = network.class_probabilities
    monkeypatch.setattr(
        "node.studies.body_region.recognition.class_probabilities", lambda of: read.append(len(of)) or original(of)
    )
    recognized(ct_series(40, 16), tmp_path)
    assert read == [SLICES]


def test_scaling_keeps_the_middle_and_surrounds_it_with_air() -> None:
    values = np.full((512, 512), 40.0, np.float32)
    small = scaled(values, (0.5, 0.5))  # 256 mm
    assert small.shape == (SIZE, SIZE)
    assert small[SIZE // 2, SIZE // 2] == 40.0
    assert small[0, 0] == AIR_HU
    inside = int((small[SIZE // 2] > AIR_HU / 2).sum())
    assert abs(inside * MM - 256.0) <= MM
    assert (scaled(values, (1.0, 1.0)) == 40.0).all(), "512 mm: what lies outside is left out"
    assert (scaled(np.full((3, 700), 40.0, np.float32), (0.06, 6.0)) <= 40.0).all()


def test_the_network_computes_what_pytorch_computes() -> None:
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(1).normal(0, 400, (2, SIZE, SIZE)).astype(np.float32)
    weights = {name: torch.from_numpy(tensor) for name, tensor in network._weights().items()}
    values = torch.from_numpy(network.channels(images))
    for layer, margin in enumerate((2, 1, 1, 1)):
        values = torch.relu(torch.conv2d(values, weights[f"w{layer}"], weights[f"b{layer}"], stride=2, padding=margin))
    features = torch.cat([values.mean((2, 3)), values.amax((2, 3))], 1)
    expected = torch.softmax(features @ weights["w4"].T + weights["b4"], 1).numpy()
    np.testing.assert_allclose(class_probabilities(images), expected, atol=1e-5)


def test_other_weights_than_the_pinned_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"other")
    (tmp_path / "w.sha256").write_text(f"{'0' * 64}  w.safetensors\n")
    monkeypatch.setattr(network, "WEIGHTS", tmp_path / "w.safetensors")
    network._weights.cache_clear()
    with pytest.raises(WeightsError, match="pinned"):
        class_probabilities(np.zeros((1, SIZE, SIZE), np.float32))
    network._weights.cache_clear()


def test_the_classes_of_the_network_begin_with_the_regions() -> None:
    assert CLASSES[: len(CHARACTERISTICS[BODY_REGION])] == CHARACTERISTICS[BODY_REGION]
