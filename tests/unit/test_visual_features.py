"""Removal of faces from images that leave under pseudonyms: what is kept does not show the surface of the head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ct_series, mr_series, put_pixels, secondary_capture, write
from head_phantom import BRAIN, SKIN, TURNS, Face, Head, ct, mr
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid
from reader_edits import workstation_seg
from scipy import ndimage

from node.config import parse
from node.deidentify.calls import deidentify_file
from node.deidentify.head_surface import margin_below_surface
from node.deidentify.profile_of_destination import VISUAL_FEATURES, Profile
from node.deidentify.source_images import source_images
from node.errors import ConfigError, GateError, InputError
from node.studies.source import SourceSeries

MM = 4.0
SHAPE = (57, 60, 53)
ORIGIN = np.array([-103.5, -127.0, -125.0])
PROFILE = Profile(key=b"k" * 32, destination="research", options=(VISUAL_FEATURES,))
DEEP_MM = 5.0
"""Where skin ends, within the size of a voxel of the phantom."""


@cache
def phantom(head: Head) -> np.ndarray:
    away = ORIGIN if head.pose == "supine" else np.array([-118.5, -118.5, -112.5])
    shape = SHAPE if head.pose == "supine" else (57, 60, 60)
    return head.tissue(shape, (MM, MM, MM), away)


def depth_of(head: Head) -> np.ndarray:
    """Distance in mm of each voxel from the air around the bare head."""
    bare = phantom(Head(face=head.face, pose=head.pose))
    labels, _ = ndimage.label(bare == 0)
    outside = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return np.asarray(ndimage.distance_transform_edt(~outside, sampling=MM))


def kept_of(head: Head) -> np.ndarray:
    values = ct(phantom(head)).astype(np.float32)
    return np.asarray(margin_below_surface(values, MM, is_ct=True) > 0)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "head",
    [
        *(Head(pose=pose) for pose in TURNS),
        *(Head(worn=(thing,)) for thing in ("mask", "holder", "cushion", "oxygen")),
    ],
    ids=str,
)
def test_the_surface_is_gone_in_every_pose_and_below_what_lies_on_it(head: Head) -> None:
    kept, kind = kept_of(head), phantom(head)
    assert depth_of(head)[kept].min() > DEEP_MM
    brain = kind == BRAIN
    assert (brain & kept).sum() > 0.98 * brain.sum()


@pytest.mark.thorough
def test_what_is_kept_does_not_depend_on_the_face() -> None:
    mask = kept_of(Head())
    other = kept_of(Head(face=Face(nose=28, nose_width=17, lips=2, chin=8, ears=16, eyes=36)))
    assert (mask ^ other).sum() < 0.01 * mask.sum()


@pytest.mark.thorough
@pytest.mark.parametrize(("noise", "ghost"), [(12.0, 0.0), (70.0, 0.0), (12.0, 0.3)])
def test_noise_and_ghosts_of_mr_are_no_part_of_the_head(noise: float, ghost: float) -> None:
    values = mr(phantom(Head()), noise, ghost).astype(np.float32)
    kept = margin_below_surface(values, MM, is_ct=False) > 0
    assert depth_of(Head())[kept].min() > DEEP_MM
    assert kept.any()


def test_a_volume_whose_surface_is_not_seen_is_refused() -> None:
    values = mr(phantom(Head()), 12.0, 0.45).astype(np.float32)
    with pytest.raises(GateError, match="as dim as a ghost"):
        margin_below_surface(values, MM, is_ct=False)
    with pytest.raises(GateError, match="surface"):
        margin_below_surface(values[30:42, 24:40, 20:35], MM, is_ct=False)


@pytest.mark.parametrize("ghost", [0.6, 1.0])
def test_a_head_that_is_folded_over_is_refused(ghost: float) -> None:
    values = mr(phantom(Head()), 12.0, ghost).astype(np.float32)
    with pytest.raises(GateError, match="two opposite edges"):
        margin_below_surface(values, MM, is_ct=False)


def test_brain_that_looks_like_air_is_refused_and_not_blanked() -> None:
    values = mr(phantom(Head())).astype(np.float32)
    values[25:35, :, 28:] = 20.0
    with pytest.raises(GateError, match="reaches deep into the body"):
        margin_below_surface(values, MM, is_ct=False)


def sent(series: Sequence[FileDataset], folder: Path, *, only: int | None = None) -> list[FileDataset]:
    """The images as a destination gets them, ``only`` one of them."""
    paths = tuple(write(series, folder / "source"))
    images, results = source_images(paths), []
    for path in paths if only is None else [paths[only]]:
        deidentify_file(path, PROFILE, folder / "out.dcm", images, is_result=False)
        results.append(dcmread(folder / "out.dcm"))
    return results


@pytest.mark.thorough
def test_images_leave_with_their_surface_blanked_and_say_so(tmp_path: Path) -> None:
    kind = phantom(Head())
    series = ct_series(volume=ct(kind), spacing=(MM, MM, MM))
    originals = [image.pixel_array.copy() for image in series]
    series[22].compress(RLELossless, generate_instance_uid=False)
    for image in series:
        image.LargestImagePixelValue = 1054
    at = 22  # through the nose
    (out,) = sent(series, tmp_path, only=at)
    skin = (kind[at] == SKIN) & (depth_of(Head())[at] <= DEEP_MM)
    values = out.pixel_array
    blank = values == 24  # -1000 HU
    assert skin.any()
    assert blank[skin].all()
    assert blank[kind[at] == 0].mean() > 0.9
    np.testing.assert_array_equal(values[~blank], originals[at][~blank])
    assert (~blank).mean() > 0.2
    assert out.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert "LargestImagePixelValue" not in out
    assert out.RecognizableVisualFeatures == "NO"
    assert "113102" in {code.CodeValue for code in out.DeidentificationMethodCodeSequence}


@pytest.mark.thorough
@pytest.mark.parametrize(("value", "limit"), [(4000, None), (3990, 4010)])
def test_padding_of_any_value_is_air(value: int, limit: int | None, tmp_path: Path) -> None:
    """PS3.3 C.7.5.1.1.2: what a scanner writes around its round field of view may be brighter than bone."""
    kind, at = phantom(Head())[12:36, ::2, ::2], 10
    plain, padded = (ct_series(volume=ct(kind), spacing=(MM, 2 * MM, 2 * MM)) for _ in range(2))
    around = np.hypot(*(np.indices(kind.shape[1:]) - np.array(kind.shape[1:])[:, None, None] / 2)) > kind.shape[2] / 2.3
    for image, slice_ in zip(padded, kind, strict=True):
        pixels = image.pixel_array.copy()
        pixels[around & (slice_ == 0)] = 4000
        image.PixelData = pixels.tobytes()
        image.add_new("PixelPaddingValue", "US", value)
        if limit is not None:
            image.add_new("PixelPaddingRangeLimit", "US", limit)
    (expected,), (out,) = sent(plain, tmp_path / "plain", only=at), sent(padded, tmp_path / "padded", only=at)
    assert (padded[at].pixel_array == 4000).any()
    assert (expected.pixel_array != 24).any()
    np.testing.assert_array_equal(out.pixel_array, expected.pixel_array)


@pytest.mark.thorough
def test_a_series_that_is_received_again_under_its_uids_is_looked_at_again(tmp_path: Path) -> None:
    kind, at, mm = phantom(Head())[12:36, ::2, ::2], 11, 2 * MM
    moved = np.roll(kind, -2, 1)
    (expected,) = sent(ct_series(volume=ct(moved), spacing=(MM, mm, mm)), tmp_path / "first", only=at)
    series = ct_series(volume=ct(kind), spacing=(MM, mm, mm))
    paths = write(series, tmp_path / "source")
    deidentify_file(paths[at], PROFILE, tmp_path / "out.dcm", source_images(paths), is_result=False)
    for image, values in zip(series, ct(moved), strict=True):
        put_pixels(image, values + 1024, signed=False)
    write(series, tmp_path / "source")
    deidentify_file(paths[at], PROFILE, tmp_path / "out.dcm", source_images(paths), is_result=False)
    np.testing.assert_array_equal(dcmread(tmp_path / "out.dcm").pixel_array, expected.pixel_array)


@pytest.mark.thorough
def test_the_files_of_a_series_are_looked_at_once_for_all_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, mm = phantom(Head())[12:36, ::2, ::2], 2 * MM
    paths = write(ct_series(volume=ct(kind), spacing=(MM, mm, mm)), tmp_path / "source")
    looked_at: list[Path] = []
    stat = Path.stat

    def counted(path: Path, **named: bool) -> os.stat_result:
        looked_at.append(path)
        return stat(path, **named)

    monkeypatch.setattr(Path, "stat", counted)
    images = source_images(paths)
    for path in paths[:3]:
        deidentify_file(path, PROFILE, tmp_path / "out.dcm", images, is_result=False)
    assert [path for path in looked_at if path in paths] == paths


def test_an_image_is_withheld_when_another_one_of_its_series_is_not_there(tmp_path: Path) -> None:
    kind, mm = phantom(Head())[12:36, ::2, ::2], 2 * MM
    paths = write(ct_series(volume=ct(kind), spacing=(MM, mm, mm)), tmp_path / "source")
    paths[5].unlink()
    with pytest.raises(InputError, match="an image of the series cannot be read"):
        deidentify_file(paths[0], PROFILE, tmp_path / "out.dcm", source_images(paths), is_result=False)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_of_the_skin_is_cut_to_what_is_kept(kind: str, tmp_path: Path) -> None:
    tissue, depth = phantom(Head())[:, ::2, ::2], depth_of(Head())[:, ::2, ::2]
    paths = tuple(write(ct_series(volume=ct(tissue), spacing=(MM, 2 * MM, 2 * MM)), tmp_path / "source"))
    source = SourceSeries.read(paths)
    seg = workstation_seg(source, {"Body": tissue > 0}, kind=kind)
    (path,) = write([seg], tmp_path / "seg")
    deidentify_file(path, PROFILE, tmp_path / "out.dcm", source_images(paths), is_result=True)
    out = dcmread(tmp_path / "out.dcm")
    heights = [float(image.ImagePositionPatient[2]) for image in source.datasets]
    left = 0
    for frame, item in zip(out.pixel_array, out.PerFrameFunctionalGroupsSequence, strict=True):
        at = int(np.argmin(np.abs(np.array(heights) - float(item.PlanePositionSequence[0].ImagePositionPatient[2]))))
        assert not frame[(depth[at] <= DEEP_MM) & (tissue[at] > 0)].any()
        left += int((frame > 0).sum())
    assert 0.3 * (tissue > 0).sum() < left < 0.9 * (tissue > 0).sum()


def _with_a_gap(series: list[FileDataset]) -> None:
    del series[12:14]


def _derived(series: list[FileDataset]) -> None:
    for image in series:
        image.ImageType = ["DERIVED", "SECONDARY", "MPR"]


def _localizer(series: list[FileDataset]) -> None:
    del series[3:]


def _turned(series: list[FileDataset]) -> None:
    series[0].ImageOrientationPatient = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]
    del series[12:]


def _without_position(series: list[FileDataset]) -> None:
    del series[0].ImagePositionPatient


def _twice(series: list[FileDataset]) -> None:
    series.append(deepcopy(series[6]))
    series[-1].SOPInstanceUID = series[-1].file_meta.MediaStorageSOPInstanceUID = generate_uid()


def _not_hu(series: list[FileDataset]) -> None:
    for image in series:
        image.RescaleIntercept = 0


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_with_a_gap, "mm apart"),
        (_derived, "original slices alone"),
        (_localizer, "are no volume"),
        (_turned, "are no volume"),
        (_without_position, "is absent"),
        (_twice, "images lie on one place"),
        (_not_hu, "surface cannot be found"),
    ],
)
def test_what_is_no_volume_is_withheld_with_the_reason(change: object, words: str, tmp_path: Path) -> None:
    volume = ct(phantom(Head()))[:, ::2, ::2]
    series = ct_series(volume=volume, spacing=(MM, 2 * MM, 2 * MM))
    assert callable(change)
    change(series)
    with pytest.raises(GateError, match=words) as error:
        sent(series, tmp_path, only=0)
    assert "let no rule send it" in str(error.value)


def test_other_modalities_and_captures_are_withheld(tmp_path: Path) -> None:
    (path,) = write([secondary_capture()], tmp_path / "capture")
    with pytest.raises(GateError, match="text or a face"):
        deidentify_file(path, PROFILE, tmp_path / "out.dcm", source_images([path]), is_result=False)
    image = mr_series(1, 16)[0]
    image.SOPClassUID, image.Modality = "1.2.840.10008.5.1.4.1.1.128", "PT"
    (path,) = write([image], tmp_path / "pet")
    with pytest.raises(GateError, match="only images of CT and MR"):
        deidentify_file(path, PROFILE, tmp_path / "out.dcm", source_images([path]), is_result=False)


def test_results_that_may_show_a_face_are_refused_in_the_configuration() -> None:
    text = (
        '[destinations.r]\ntitle = "R"\nhost = "h"\nport = 104\ndeidentify = "basic"\n'
        'deidentify_options = ["clean recognizable visual features"]\nobjects = ["seg", "rtstruct"]\n'
    )
    with pytest.raises(ConfigError, match="may show a face"):
        parse(text)
