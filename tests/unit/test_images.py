"""Series of single images: what pipelines get of radiographs, mammograms and ultrasound, and results on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyses import analysis, source_of
from image_pipelines import Detector
from projections import chest_xray, cine, mammogram
from pydicom import Dataset, FileDataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import BreastTomosynthesisImageStorage
from tomosynthesis import tomosynthesis

from node.errors import EncodeError
from node.inference.run_pipeline import analyse
from node.pipeline import Assertion, Findings, Needs, PixelSpacing, Segment, Volume, codes
from node.results.encode import encode
from node.results.gate.check import check
from node.results.key_image import EDGE
from node.results.report_items import measurement_groups
from node.routing.rules import Origin
from node.routing.series_examination import SeriesQuestion, examine
from node.studies.preflight import unmet
from node.studies.source import SourceSeries
from node.studies.source_image import spacing_of, view_of

KINDS = ("seg", "sr", "key images", "pdf", "presentation state", "key object selection")
X_RAY = Needs(modalities=frozenset({"DX", "CR"}), images=True)


def series_of(tmp_path: Path, *datasets: FileDataset) -> SourceSeries:
    """The datasets as one series."""
    for number, dataset in enumerate(datasets, 1):
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
            datasets[0].StudyInstanceUID,
            datasets[0].SeriesInstanceUID,
        )
        dataset.InstanceNumber = number
    return source_of(tmp_path, datasets)


def test_two_views_of_one_series_are_two_images_with_their_views(tmp_path: Path):
    source = series_of(tmp_path, chest_xray(96, 80), chest_xray(90, 84, view="LL"))
    first, second = source.images()
    assert [image.view for image in (first, second)] == ["PA", "LL"]
    assert (first.rows, first.columns, second.rows, second.columns) == (96, 80, 90, 84)
    assert first.orientation == ("L", "F")
    assert (first.frame, first.laterality) == (None, "")
    assert first.pixel_spacing == PixelSpacing(0.2, 0.2, "detector")
    assert first.values().shape == (96, 80)
    assert unmet(X_RAY, source) == ""


def test_grey_levels_are_those_of_the_window_and_bright_is_high_in_either_photometric_interpretation(tmp_path: Path):
    x_ray, breast = chest_xray(bright=(slice(10, 14), slice(20, 30))), mammogram(spot=(40, 50))
    for image, at in (
        (series_of(tmp_path / "a", x_ray).images()[0], (12, 25)),
        (series_of(tmp_path / "b", breast).images()[0], (41, 51)),
    ):
        grey = image.grey()
        assert grey.dtype == np.float32
        assert 0 <= grey.min() <= grey.max() <= 1
        assert grey[at] > 0.95 > np.median(grey)
        assert image.rgb()[at].tolist() == [round(float(grey[at]) * 255)] * 3


def test_values_are_those_of_the_device(tmp_path: Path):
    breast = mammogram(spot=(40, 50))
    (image,) = series_of(tmp_path, breast).images()
    assert image.values()[41, 51] == 0
    assert np.array_equal(image.values(), breast.pixel_array)


def test_a_voi_lut_goes_before_nothing_and_its_end_is_white(tmp_path: Path):
    dataset = chest_xray()
    del dataset.WindowCenter, dataset.WindowWidth
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 10]
    table.LUTData = np.linspace(0, 1023, 4096).astype("<u2").tobytes()
    dataset.VOILUTSequence = [table]
    (image,) = series_of(tmp_path, dataset).images()
    assert image.grey() == pytest.approx(dataset.pixel_array / 4095, abs=2e-3)


@pytest.mark.parametrize("window", [(2048.0, 0.0), None])
def test_without_a_usable_window_all_values_but_padding_are_shown(tmp_path: Path, window: tuple[float, float] | None):
    dataset = chest_xray()
    del dataset.WindowCenter, dataset.WindowWidth
    if window is not None:
        dataset.WindowCenter, dataset.WindowWidth = window
    pixels = np.full((4, 4), 1000, np.uint16)
    pixels[0], pixels[1] = 4095, 2000
    dataset.Rows = dataset.Columns = 4
    dataset.PixelData, dataset.PixelPaddingValue = pixels.tobytes(), 4095
    (image,) = series_of(tmp_path, dataset).images()
    assert image.grey()[1:3, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("stated", "spacing"),
    [
        ({}, None),
        ({"ImagerPixelSpacing": [0.15, 0.2]}, (0.15, 0.2, "detector")),
        ({"ImagerPixelSpacing": [0.15, 0.15], "PixelSpacing": [0.15, 0.15]}, (0.15, 0.15, "detector")),
        ({"ImagerPixelSpacing": [0.15, 0.15], "PixelSpacing": [0.12, 0.12]}, (0.12, 0.12, "patient")),
        ({"PixelSpacing": [0.12, 0.12]}, (0.12, 0.12, "detector")),
        ({"PixelSpacing": [0.12, 0.12], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.12, 0.12, "patient")),
        ({"PixelSpacing": [0.7, 0.7], "ImagePositionPatient": [0, 0, 0]}, (0.7, 0.7, "patient")),
        ({"PixelSpacing": [0.0, 0.1]}, None),
        ({"PixelSpacing": None}, None),
    ],
)
def test_a_spacing_says_where_it_is_true(stated: dict[str, Any], spacing: tuple[Any, ...] | None):
    """PS3.3 10.7.1.3: Imager Pixel Spacing is at the detector, Pixel Spacing that differs from it is calibrated."""
    header = Dataset()
    for keyword, value in stated.items():
        setattr(header, keyword, value)
    assert spacing_of(header) == (None if spacing is None else PixelSpacing(*spacing))


def test_a_view_code_says_the_view_where_view_position_does_not():
    header = mammogram()
    del header.ViewPosition
    assert view_of(header) == "MLO"
    header.ViewCodeSequence[0].CodeValue = "unknown"
    assert view_of(header) == ""


def test_frames_of_a_cine_loop_are_images_in_colour(tmp_path: Path):
    source = series_of(tmp_path, cine(3))
    images = source.images()
    assert [image.frame for image in images] == [1, 2, 3]
    assert [int(image.rgb()[5, 5, 0]) for image in images] == [40, 80, 120]
    assert unmet(Needs(modalities=frozenset({"US"}), images=True), source) == ""
    assert "in colour" in unmet(Needs(modalities=frozenset({"US"}), regular_grid=False), source)


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("dicomdirtests/77654033/CR1/6154", "CR"),
        ("examples_ybr_color.dcm", "US"),
        ("examples_palette.dcm", "US"),
        ("examples_overlay.dcm", "MR"),
        ("SC_rgb_rle_2frame.dcm", "OT"),
    ],
)
def test_images_that_others_made_are_read(name: str, modality: str):
    path = get_testdata_file(name, download=False)
    source = SourceSeries.read([Path(str(path))])
    header = dcmread(str(path), stop_before_pixels=True)
    assert source.modality == modality
    assert len(source.images()) == int(header.get("NumberOfFrames") or 1)
    for image in source.images()[:2]:
        assert image.rgb().shape == (header.Rows, header.Columns, 3)
        assert np.ptp(image.rgb()) > 20


def test_only_the_wanted_view_is_analysed_and_the_report_says_which_image_was_not(tmp_path: Path):
    bright = (slice(20, 23), slice(30, 33))
    source = series_of(tmp_path, chest_xray(view="LL"), chest_xray(bright=bright))
    needs = Needs(modalities=frozenset({"DX"}), images=True, views=frozenset({"PA", "AP"}))
    outcome, _, findings = analyse(Detector(needs), source)
    assert outcome == "findings"
    (region,) = findings.regions
    assert region.shape.sop_instance_uid == source.datasets[1].SOPInstanceUID
    assert findings.remarks == ("1 image not analysed: its view is LL, needed is AP or PA.",)


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        ({"views": frozenset({"CC"})}, "1 image not analysed: its view is MLO, needed is CC"),
        ({"lateralities": frozenset({"L"})}, "1 image not analysed: its laterality is R, needed is L"),
        ({"body_parts": frozenset({"CHEST"})}, "BodyPartExamined is BREAST, needed is CHEST"),
        ({"min_slices": 2}, "the series has 1 images, at least 2 are needed"),
        ({"modalities": frozenset({"DX"})}, "Modality is MG, needed is DX"),
    ],
)
def test_preflight_says_what_images_lack(tmp_path: Path, needs: dict[str, Any], reason: str):
    wanted = Needs(**({"modalities": frozenset({"MG"}), "images": True} | needs))
    assert unmet(wanted, series_of(tmp_path, mammogram())) == reason


def test_a_tomosynthesis_is_no_mammogram(tmp_path: Path):
    dataset = mammogram()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = BreastTomosynthesisImageStorage
    reason = unmet(Needs(modalities=frozenset({"MG"}), images=True), series_of(tmp_path, dataset))
    assert reason == "1 image not analysed: it is a tomosynthesis, whose frames are no mammograms"


SLICES = Needs(modalities=frozenset({"MG"}), images=True, tomosynthesis=True)


def test_slices_of_a_tomosynthesis_are_images_with_side_view_and_place_for_those_who_ask(tmp_path: Path):
    source = source_of(tmp_path, [tomosynthesis(frames=9, spot=(4, 30, 20))])
    images = source.images()
    assert [image.frame for image in images] == list(range(1, 10))
    assert {(image.view, image.laterality) for image in images} == {("ML", "L")}
    assert images[4].pixel_spacing == PixelSpacing(0.1, 0.1, "patient")
    assert np.argwhere(images[4].values() == 1000).tolist() == [[r, c] for r in (30, 31, 32) for c in (20, 21, 22)]
    assert unmet(SLICES, source) == ""
    assert unmet(replace(SLICES, lateralities=frozenset({"R"})), source) == (
        "9 images not analysed: its laterality is L, needed is R"
    )
    usual = unmet(replace(SLICES, tomosynthesis=False), source)
    assert usual == "9 images not analysed: it is a tomosynthesis, whose frames are no mammograms"
    assert unmet(SLICES, series_of(tmp_path / "flat", mammogram())) == (
        "1 image not analysed: it is no slice of a tomosynthesis"
    )
    with pytest.raises(ValueError, match=r"Needs\.tomosynthesis has no meaning without images=True"):
        Needs(modalities=frozenset({"MG"}), tomosynthesis=True)


def test_a_box_on_a_slice_of_a_tomosynthesis_names_its_frame(tmp_path: Path):
    source = source_of(tmp_path, [tomosynthesis(frames=3, spot=(1, 30, 20))])
    outcome, _, findings = analyse(Detector(SLICES), source)
    assert outcome == "findings"
    objects = encode(analysis(findings), source, ("sr", "key images", "presentation state"))
    check(objects, source)
    (report,) = [instance.dataset for instance in objects if instance.kind == "sr"]
    boxes = [
        item for group in measurement_groups(report) for item in group.ContentSequence if item.ValueType == "SCOORD"
    ]
    named = [box.ContentSequence[0].ReferencedSOPSequence[0] for box in boxes]
    assert [reference.ReferencedFrameNumber for reference in named] == [1, 2, 3]
    assert {reference.ReferencedSOPInstanceUID for reference in named} == {source.datasets[0].SOPInstanceUID}
    assert boxes[1].GraphicData == [17, 27, 24, 27, 24, 34, 17, 34, 17, 27]


def test_a_mammogram_among_the_slices_is_left_out_and_counted(tmp_path: Path):
    source = series_of(tmp_path, mammogram(), tomosynthesis(frames=3, spot=(1, 30, 20)))
    outcome, reason, findings = analyse(Detector(SLICES), source)
    assert (outcome, len(findings.regions)) == ("partial", 3)
    assert str(reason).startswith("1 image left out: ImageOrientationPatient is missing")


@pytest.mark.parametrize("name", ["planes", "volumes_by", "max_slice_spacing_mm", "min_coverage_mm"])
def test_needs_of_a_volume_have_no_meaning_for_images(name: str):
    value: Any = {"planes": {"axial"}, "volumes_by": "b_value"}.get(name, 3.0)
    with pytest.raises(ValueError, match=f"Needs.{name} has no meaning with images=True"):
        Needs(modalities=frozenset({"DX"}), images=True, **{name: value})
    with pytest.raises(ValueError, match=r"Needs\.views has no meaning without images=True"):
        Needs(modalities=frozenset({"DX"}), views={"PA"})


@pytest.mark.parametrize(
    "make",
    [
        lambda: [chest_xray(96, 80), chest_xray(70, 84, view="LL")],
        lambda: [mammogram(side="R"), mammogram(side="L")],
        lambda: [cine(3, colour=False)],
        lambda: [cine(2), cine(2)],
    ],
    ids=["x-ray", "mammogram", "cine", "cine in colour"],
)
def test_results_on_images_pass_the_gate_and_each_names_its_image(tmp_path: Path, make: Any):
    source = series_of(tmp_path, *make())
    needs = Needs(modalities=frozenset({source.modality}), images=True)
    outcome, reason, findings = analyse(Detector(needs), source)
    assert (outcome, reason) == ("findings", "")
    objects = encode(analysis(findings), source, KINDS)
    check(objects, source)
    report = next(instance.dataset for instance in objects if instance.kind == "sr")
    for image, group in zip(source.images(), measurement_groups(report), strict=True):
        (place,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        named = place.ContentSequence[0].ReferencedSOPSequence[0]
        assert named.ReferencedSOPInstanceUID == image.sop_instance_uid
        assert named.get("ReferencedFrameNumber") == image.frame
    pictures = [instance.dataset for instance in objects if instance.kind == "key images"]
    assert len(pictures) == len(source.images())


def test_a_picture_is_as_bright_as_its_image_and_has_its_letters(tmp_path: Path):
    source = series_of(tmp_path, mammogram(side="R"))
    _, _, findings = analyse(Detector(Needs(modalities=frozenset({"MG"}), images=True)), source)
    (instance,) = encode(analysis(findings), source, ["key images"])
    picture = instance.dataset
    assert list(picture.PatientOrientation) == ["A", "F"]
    pixels = picture.pixel_array
    middle, corner = pixels[EDGE // 2, EDGE // 2 : EDGE // 2 + 9], pixels[3, (EDGE - 570) // 2 : EDGE // 2 - 270]
    assert middle.mean() > corner.mean() + 50


def test_a_presentation_state_of_monochrome1_is_inverse(tmp_path: Path):
    source = series_of(tmp_path, mammogram())
    _, _, findings = analyse(Detector(Needs(modalities=frozenset({"MG"}), images=True)), source)
    (state,) = encode(analysis(findings), source, ["presentation state"])
    assert state.dataset.PresentationLUTShape == "INVERSE"


def test_presentation_states_are_of_grey_images_only(tmp_path: Path):
    source = series_of(tmp_path, cine(2))
    _, _, findings = analyse(Detector(Needs(modalities=frozenset({"US"}), images=True)), source)
    kinds = {instance.kind for instance in encode(analysis(findings), source, KINDS)}
    assert kinds == {"sr", "key images", "pdf", "key object selection"}


def test_a_mask_on_images_without_geometry_is_refused_in_words(tmp_path: Path):
    source = series_of(tmp_path, chest_xray())
    mask = Volume(np.ones((1, 96, 80), np.uint8), np.eye(4), coordinate_system="PATIENT")
    segment = Segment(label="Heart", mask=mask, category=codes.SCT.AnatomicalStructure, type=codes.SCT.Heart)
    with pytest.raises(EncodeError, match="has masks but no grid to put them on"):
        encode(analysis(Findings(segments=(segment,))), source, ["seg"])


def test_a_classification_of_a_radiograph_needs_no_place(tmp_path: Path):
    source = series_of(tmp_path, chest_xray())
    findings = Findings(assertions=(Assertion.at(codes.SCT.Pneumothorax, 0.93, present_from=0.5),))
    objects = encode(analysis(findings), source, KINDS)
    check(objects, source)
    assert {instance.kind for instance in objects} == {"sr", "pdf"}


def test_a_series_of_views_waits_for_no_slices(tmp_path: Path):
    source = series_of(tmp_path, chest_xray(), chest_xray(view="LL"))
    examined = examine(SeriesQuestion(paths=source.paths, origin=Origin()), ())
    assert examined.missing == ""
