"""Findings become valid, deterministic, complete DICOM objects, one explicit report per outcome."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from analyses import ALGORITHM, NOTHING, OUTCOMES, analysis, box, encoded, halved, one, segment, source_of, two_lesions
from dicom_files import ct_series, mr_series, secondary_capture
from pydicom import Dataset

from node.errors import EncodeError
from node.pipeline import Algorithm, Findings, Lesion, Measurement, Volume, codes
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.gate.check import check


def dciodvfy(folder: Path, objects: tuple[EncodedObject, ...]) -> list[str]:
    errors = []
    program = Path(sys.executable).with_name("dciodvfy")
    for number, encoded_object in enumerate(objects):
        path = folder / f"result{number}.dcm"
        path.write_bytes(encoded_object.data)
        done = subprocess.run([program, path], capture_output=True, text=True, check=False)
        errors += [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    return errors


def groups(report: Dataset) -> list[Dataset]:
    (measurements,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    return list(measurements.ContentSequence)


def numbers(group: Dataset) -> dict[str, float]:
    return {
        i.ConceptNameCodeSequence[0].CodeMeaning: float(i.MeasuredValueSequence[0].NumericValue)
        for i in group.ContentSequence
        if i.ValueType == "NUM"
    }


def texts(report: Dataset) -> list[str]:
    values = [report.TextValue] if report.get("ValueType") == "TEXT" else []
    for item in report.get("ContentSequence") or []:
        values += texts(item)
    return values


def test_every_object_of_a_ct_analysis_is_valid(tmp_path):
    source, objects = encoded(tmp_path)
    assert [o.kind for o in objects] == ["derived"] * 5 + ["seg", "sr"]
    check(objects, source)
    assert dciodvfy(tmp_path, objects) == []


def test_every_object_of_an_mr_analysis_is_valid(tmp_path):
    source = source_of(tmp_path, mr_series(5, 32))
    findings = Findings(lesions=two_lesions(source).lesions, derived=halved(source).derived)
    objects = encode(analysis(findings), source)
    check(objects, source)
    assert dciodvfy(tmp_path, objects) == []


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_without_findings_is_one_valid_report_that_says_so(tmp_path, outcome):
    source = source_of(tmp_path, ct_series(3, 16))
    objects = encode(analysis(**OUTCOMES[outcome]), source)
    check(objects, source)
    assert dciodvfy(tmp_path, objects) == []
    report = one(objects, "sr")
    said = "NOT ANALYSED" if outcome in ("not applicable", "failed") else outcome.upper()
    assert report.SeriesDescription == f"{said} - AI nodule report"
    assert any(outcome in text and str(OUTCOMES[outcome].get("reason", "")) in text for text in texts(report))
    assert any(i.ValueType == "SCOORD" for i in groups(report)[0].ContentSequence)  # without it OHIF shows nothing
    expected = {"no findings": "111241", "not applicable": "111245", "failed": "111245"}
    expected |= {"indeterminate": "280416009", "measured": "258104002"}
    group, *asserted = groups(report)
    assert len(asserted) == (outcome == "indeterminate")  # with its probability
    for stated in (group, *asserted):
        (finding,) = [i for i in stated.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121071"]
        assert finding.ConceptCodeSequence[0].CodeValue == expected[outcome]
    (evaluations,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375"]
    assert evaluations.ContentSequence[0].ConceptCodeSequence[0].CodeValue == expected[outcome]


def test_an_analysis_of_a_part_says_so_whatever_it_found(tmp_path):
    source = source_of(tmp_path, ct_series(4, 32))
    for findings, code in ((two_lesions(source), "111244"), (NOTHING, "111243")):
        objects = encode(analysis(replace(findings, partial="2 slices are missing")), source)
        check(objects, source)
        report = one(objects, "sr")
        assert report.SeriesDescription == "PARTIAL - AI nodule report"
        assert "Outcome: partial. 2 slices are missing." in texts(report)
        (evaluations,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375"]
        summary, status = (i.ConceptCodeSequence[0].CodeValue for i in evaluations.ContentSequence[:2])
        assert (summary, status) == (code, "111223")


def test_a_report_alone_holds_every_measurement_of_the_one_on_the_segmentation(tmp_path):
    source = source_of(tmp_path, ct_series(4, 32))
    objects = encode(analysis(two_lesions(source)), source, ["seg", "sr", "sr alone"])
    check(objects, source)
    beside, alone = ([n for g in groups(one(objects, kind)) for n in numbers(g).items()] for kind in ("sr", "sr alone"))
    assert sorted(alone) == sorted(beside)
    assert check(encode(analysis(two_lesions(source)), source, ["sr alone"]), source) is None


def test_images_without_geometry_still_get_their_report(tmp_path):
    source = source_of(tmp_path, [secondary_capture()])
    objects = encode(analysis(outcome="not applicable", reason="a screenshot"), source)
    check(objects, source)
    assert dciodvfy(tmp_path, objects) == []


def test_a_pipeline_that_was_never_loaded_still_reports_its_failure(tmp_path):
    source = source_of(tmp_path, ct_series(2, 16))
    nameless = Algorithm(name="nodule", version="")
    objects = encode(analysis(algorithm=nameless, outcome="failed", reason="weights are missing"), source)
    check(objects, source)
    assert dciodvfy(tmp_path, objects) == []


def test_the_same_analysis_gives_the_same_bytes(tmp_path):
    source = source_of(tmp_path, ct_series(4, 32))
    findings = Findings(lesions=two_lesions(source).lesions, derived=halved(source).derived)
    first, second = (encode(analysis(findings), source) for _ in range(2))
    assert [o.data for o in first] == [o.data for o in second]


@pytest.mark.parametrize(
    "change",
    [
        {"pipeline": "other"},
        {"generation": 2},
        {"algorithm": replace(ALGORITHM, version="1.3")},
        {"algorithm": replace(ALGORITHM, weights_sha256="cd" * 32)},
        {"algorithm": replace(ALGORITHM, parameters={"threshold": "0.6"})},
        {"outcome": "failed", "reason": "another"},
    ],
)
def test_another_analysis_never_reuses_a_uid(tmp_path, change):
    source = source_of(tmp_path, ct_series(2, 16))
    uids = [
        one(encode(analysis(**({"outcome": "failed", "reason": "one"} | extra)), source), "sr").SOPInstanceUID
        for extra in ({}, change)
    ]
    assert uids[0] != uids[1]


def test_a_lesion_has_an_outline_and_a_segment_under_one_tracking_uid(tmp_path):
    _, objects = encoded(tmp_path)
    report, seg = one(objects, "sr"), one(objects, "seg")
    value_types: dict[str, set[str]] = {}
    for group in groups(report):
        (tracking,) = [i.UID for i in group.ContentSequence if i.ValueType == "UIDREF"]
        value_types.setdefault(tracking, set()).update(i.ValueType for i in group.ContentSequence)
    assert list(value_types) == [s.TrackingUID for s in seg.SegmentSequence]
    assert all({"SCOORD", "IMAGE", "NUM"} <= kinds for kinds in value_types.values())


def test_volume_and_axes_are_those_of_the_mask(tmp_path):
    _, objects = encoded(tmp_path)  # voxels of 2.5 x 0.7 x 0.7 mm; the first lesion is 3 x 6 x 12 voxels
    planar, volumetric = groups(one(objects, "sr"))[:2]
    assert numbers(planar)["Long axis"] == pytest.approx(np.hypot(12, 6) * 0.7, abs=0.7)
    assert numbers(volumetric)["Volume"] == pytest.approx(3 * 6 * 12 * 2.5 * 0.7 * 0.7, abs=0.51)
    assert numbers(volumetric)["Certainty of Finding"] == pytest.approx(83)


def test_the_outline_surrounds_the_centres_of_exactly_the_mask(tmp_path):
    source = source_of(tmp_path, ct_series(3, 24))
    grid = source.volume()
    mask = np.zeros(grid.spatial_shape, bool)
    rows, columns = np.mgrid[:24, :24]
    mask[1] = (rows - 9) ** 2 + (columns - 14.5) ** 2 < 40
    lesion = Lesion(segment=segment(grid.with_array(mask)), finding=codes.SCT.Nodule)
    planar = groups(one(encode(analysis(Findings(lesions=(lesion,))), source), "sr"))[0]
    (outline,) = [i for i in planar.ContentSequence if i.ValueType == "SCOORD"]
    points = np.reshape(outline.GraphicData, (-1, 2))
    assert np.array_equal(points[0], points[-1])
    inside = np.zeros((24, 24), bool)
    for row, column in np.ndindex(24, 24):
        x, y = column + 0.5, row + 0.5
        a, b = points[:-1], points[1:]
        crossed = (a[:, 1] > y) != (b[:, 1] > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
        inside[row, column] = np.count_nonzero(crossed & (at > x)) % 2
    assert np.array_equal(inside, mask[1])
    referenced = outline.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert referenced == source.datasets[1].SOPInstanceUID


def test_what_the_pipeline_measured_replaces_what_the_node_would(tmp_path):
    source = source_of(tmp_path, ct_series(3, 16))
    stated = (
        Measurement(name=codes.SCT.Volume, value=77.0, unit=codes.UCUM.CubicMillimeter),
        Measurement(name=codes.SCT.LongAxis, value=9.5, unit=codes.UCUM.Millimeter),
    )
    mask = box(source.volume(), (1, 2, 2), (2, 6, 6))
    lesion = Lesion(segment=segment(mask), finding=codes.SCT.Nodule, measurements=stated)
    report = one(encode(analysis(Findings(lesions=(lesion,))), source), "sr")
    names = [name for group in groups(report) for name in numbers(group)]
    assert sorted(n for n in names if "Attenuation" not in n) == ["Long axis", "Short axis", "Volume"]
    assert {n: v for g in groups(report) for n, v in numbers(g).items()}["Volume"] == 77.0


def test_overlapping_segments_keep_all_their_voxels(tmp_path):
    source = source_of(tmp_path, ct_series(4, 24))
    grid = source.volume()
    masks = [box(grid, (0, 2, 2), (3, 12, 12)), box(grid, (1, 8, 8), (4, 20, 20)), box(grid, (0, 0, 0), (4, 1, 1))]
    findings = Findings(segments=tuple(segment(m, f"Part {n}") for n, m in enumerate(masks)))
    objects = encode(analysis(findings), source)
    check(objects, source)
    seg = highdicom.seg.Segmentation.from_dataset(one(objects, "seg"))
    assert seg.SegmentsOverlap == "YES"
    back = seg.get_volume(segment_numbers=[1, 2, 3]).match_geometry(source.geometry)
    for number, mask in enumerate(masks):
        assert np.array_equal(back.array[..., number], mask.array)


def test_a_lesion_between_two_slices_does_not_vanish(tmp_path):
    source = source_of(tmp_path, ct_series(4, 16, spacing=(5.0, 1.0, 1.0)))
    affine = source.geometry.affine.copy()
    affine[:3, :3] /= 8
    fine = Volume(np.zeros((8, 64, 64), np.uint8), affine, coordinate_system="PATIENT")
    fine.array[3:5, 30:32, 30:32] = 1
    lesion = Lesion(segment=segment(fine), finding=codes.SCT.Nodule)
    seg = one(encode(analysis(Findings(lesions=(lesion,))), source), "seg")
    assert seg.pixel_array.sum() >= 1


def test_a_mask_outside_the_images_is_refused_with_the_remedy(tmp_path):
    source = source_of(tmp_path, ct_series(3, 16))
    affine = source.geometry.affine.copy()
    affine[:3, 3] += 500
    far = Volume(np.ones((2, 2, 2), np.uint8), affine, coordinate_system="PATIENT")
    with pytest.raises(EncodeError, match=r"'Nodule 1' lies outside.*check its affine"):
        encode(analysis(Findings(segments=(segment(far),))), source)


def test_an_outcome_that_the_findings_contradict_is_refused(tmp_path):
    source = source_of(tmp_path, ct_series(4, 32))
    with pytest.raises(EncodeError, match="outcome_of"):
        encode(analysis(two_lesions(source), outcome="no findings"), source)
    with pytest.raises(EncodeError, match="outcome_of"):
        encode(analysis(NOTHING, outcome="findings"), source)


def test_an_empty_organ_segment_is_left_out_beside_others(tmp_path):
    source = source_of(tmp_path, ct_series(4, 32))
    empty = segment(box(source.volume(), (0, 0, 0), (0, 0, 0)), "Nothing")
    objects = encode(analysis(Findings(lesions=two_lesions(source).lesions, segments=(empty,))), source)
    check(objects, source)
    assert [s.SegmentLabel for s in one(objects, "seg").SegmentSequence] == ["Nodule 1", "Nodule 2"]


@pytest.mark.parametrize(
    ("signed", "slope", "intercept"), [(False, 1.0, -1024.0), (True, 1.0, 0.0), (False, 0.5, -1000.0)]
)
def test_derived_values_are_the_pipelines_within_half_a_step(tmp_path, signed, slope, intercept):
    hu = np.random.default_rng(3).integers(-1000, 400, (3, 16, 16))

    def store(dataset: Any) -> None:
        values = np.rint((hu[dataset.InstanceNumber - 1] - intercept) / slope)
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelRepresentation = int(signed)
        dataset.PixelData = values.astype("<i2" if signed else "<u2").tobytes()

    source = source_of(tmp_path, ct_series(3, 16), store)
    wanted = ((source.volume().array + 1000) / 2 - 1000).astype(float)
    objects = encode(analysis(halved(source)), source)
    check(objects, source)
    assert [o.kind for o in objects] == ["derived"] * 3
    for number, encoded_object in enumerate(objects):
        image = encoded_object.dataset
        got = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        assert np.abs(got - wanted[number]).max() <= slope / 2 + 1e-3
        assert (image.RescaleSlope, image.RescaleIntercept) == (slope, intercept)
        assert image.ImagePositionPatient == source.datasets[number].ImagePositionPatient
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == source.datasets[number].SOPInstanceUID
        assert list(image.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]


def padded(dataset: Any) -> None:
    """12 bits, unsigned, the first two rows padding and another one at the upper end."""
    pixels = dataset.pixel_array.copy()
    pixels[:2] = 0
    pixels[5] = 4095
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelPaddingValue = 0
    dataset.PixelData = pixels.tobytes()


def test_derived_values_beyond_the_stored_type_are_kept_in_16_bits_and_padding_stays(tmp_path):
    source = source_of(tmp_path, ct_series(2, 16), padded)
    grid = source.volume()
    louder = replace(
        halved(source).derived[0], volume=grid.with_array(np.where(grid.array > 0, grid.array + 500, -5000))
    )
    objects = encode(analysis(Findings(derived=(louder,))), source)
    check(objects, source)
    assert dciodvfy(tmp_path, objects) == []
    for encoded_object in objects:
        image = encoded_object.dataset
        assert (image.BitsStored, image.HighBit, image.PixelRepresentation) == (16, 15, 1)
        assert (image.PixelPaddingValue, image["PixelPaddingValue"].VR) == (0, "SS")
        assert (image.pixel_array[:2] == 0).all()
        assert (image.pixel_array[5] == 4095 + 500).all()
        assert image.pixel_array[7].min() == -5000 + 1024


def test_derived_values_within_the_stored_type_keep_it(tmp_path):
    source = source_of(tmp_path, ct_series(2, 16), padded)
    same = replace(halved(source).derived[0], volume=source.volume())
    objects = encode(analysis(Findings(derived=(same,))), source)
    assert len(objects) == 2
    for encoded_object in objects:
        image = encoded_object.dataset
        assert (image.BitsStored, image.HighBit, image.PixelRepresentation) == (12, 11, 0)
        assert image["PixelPaddingValue"].VR == "US"


def test_a_padding_value_that_no_pixel_can_have_does_not_widen_the_type(tmp_path):
    def odd(dataset: Any) -> None:
        padded(dataset)
        dataset.add_new("PixelPaddingValue", "US", 63536)  # -2000 in 16 bits, as some scanners write it

    source = source_of(tmp_path, ct_series(2, 16), odd)
    same = replace(halved(source).derived[0], volume=source.volume())
    objects = encode(analysis(Findings(derived=(same,))), source)
    assert len(objects) == 2
    for number, encoded_object in enumerate(objects):
        image = encoded_object.dataset
        assert (image.BitsStored, image.PixelRepresentation, image.PixelPaddingValue) == (12, 0, 63536)
        assert np.array_equal(image.pixel_array - 1024.0, source.volume().array[number])


@pytest.mark.parametrize("value", [60_000, 1e30])
def test_derived_values_that_16_bits_cannot_hold_are_refused_with_the_remedy(tmp_path, value):
    source = source_of(tmp_path, ct_series(2, 16))
    grid = source.volume()
    far = replace(halved(source).derived[0], volume=grid.with_array(np.where(grid.array > 0, value, -value)))
    with pytest.raises(EncodeError, match="more than 16 bits hold; limit its values, or hand them over as a Map"):
        encode(analysis(Findings(derived=(far,))), source)


def test_lossy_source_images_make_lossy_results(tmp_path):
    def lossy(dataset: Any) -> None:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio, dataset.LossyImageCompressionMethod = 8.0, "ISO_15444_1"

    source = source_of(tmp_path, ct_series(4, 32), lossy)
    findings = Findings(lesions=two_lesions(source).lesions, derived=halved(source).derived)
    objects = encode(analysis(findings), source)
    check(objects, source)
    assert {o.dataset.LossyImageCompression for o in objects if o.kind != "sr"} == {"01"}
    assert dciodvfy(tmp_path, objects) == []


def test_the_algorithm_is_named_in_every_object(tmp_path):
    _, objects = encoded(tmp_path)
    for encoded_object in objects:
        dataset = encoded_object.dataset
        item = dataset.ContributingEquipmentSequence[-1]
        assert item.ManufacturerModelName == ALGORITHM.name
        assert item.SoftwareVersions[0] == ALGORITHM.version
        assert item.DeviceSerialNumber == ALGORITHM.weights_sha256
    seg, report = one(objects, "seg"), one(objects, "sr")
    assert "threshold=0.5" in seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert "threshold=0.5" in texts(report)
    assert all("RecommendedDisplayCIELabValue" in s for s in seg.SegmentSequence)
