"""Pictures that a pipeline or a container made: shown with the key images, with our identity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from analyses import analysis, source_of, spoiled
from dicom_files import ct_series
from highdicom.sc import SCImage
from pydicom.uid import generate_uid

from node.errors import GateError, PipelineError
from node.inference.findings_document import read_findings, write_findings
from node.pipeline import Findings, Picture, codes
from node.results.encode import encode
from node.results.gate.check import check
from node.studies.source import SourceSeries
from pipelines.container.options import ContainerOptions
from pipelines.container.results import Results
from pipelines.options import read_options

CHART = np.zeros((50, 71, 3), np.uint8)
CHART[10:30, 20:40] = (255, 128, 0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return source_of(tmp_path_factory.mktemp("series"), ct_series(4, 30))


def findings(*labels: str) -> Findings:
    return Findings(
        pictures=tuple(Picture(label=label, pixels=CHART) for label in labels), looked_for=(codes.SCT.Nodule,)
    )


def test_a_picture_is_sent_unchanged_with_our_identity_and_who_made_it(source):
    objects = encode(analysis(findings("Chart", "Curve")), source, ("sr", "key images"))
    check(objects, source)
    first, second = [instance.dataset for instance in objects if instance.kind == "key images"]
    np.testing.assert_array_equal(first.pixel_array[:50, :71], CHART)
    assert first.pixel_array[:, 80:].any(), "label, algorithm and notice"
    assert (first.SeriesInstanceUID, first.InstanceNumber, second.InstanceNumber) == (second.SeriesInstanceUID, 1, 2)
    assert first.PatientID == source.datasets[0].PatientID
    assert (first.ConversionType, first.BurnedInAnnotation) == ("SYN", "YES")
    assert [reference.ReferencedSOPInstanceUID for reference in first.SourceImageSequence] == [
        dataset.SOPInstanceUID for dataset in source.datasets
    ]
    assert "Chart" in first.ImageComments
    assert first.SOPInstanceUID in str(next(instance.dataset for instance in objects if instance.kind == "sr"))


def test_the_gate_refuses_a_picture_that_states_how_the_patient_lies(source):
    objects = tuple(encode(analysis(findings("Chart")), source, ("key images",)))
    with pytest.raises(GateError, match="PatientOrientation"):
        check(
            spoiled(objects, "key images", lambda dataset: setattr(dataset, "PatientOrientation", ["L", "P"])), source
        )


def test_the_handover_keeps_pictures():
    arrays: dict[str, np.ndarray] = {}
    (again,) = read_findings(write_findings(findings("Chart"), arrays), arrays).pictures
    assert again.label == "Chart"
    np.testing.assert_array_equal(again.pixels, CHART)


@pytest.mark.parametrize("pixels", [CHART[..., 0], CHART.astype(float), CHART[:0], np.zeros((5000, 4, 3), np.uint8)])
def test_a_picture_that_is_none_cannot_be_made(pixels):
    with pytest.raises(ValueError, match=r"Picture\.pixels"):
        Picture(label="Chart", pixels=pixels)
    with pytest.raises(ValueError, match="each with its own label"):
        findings("Chart", "Chart")


def capture(folder: Path, source: SourceSeries, **changed: object) -> Path:
    folder.mkdir()
    first = pydicom.dcmread(source.paths[0], stop_before_pixels=True)
    image = SCImage(
        pixel_array=CHART[..., 0] if changed.get("grey") else CHART,
        photometric_interpretation="MONOCHROME1" if changed.pop("grey", False) else "RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=generate_uid(),
        sop_instance_uid=generate_uid(),
        series_number=1,
        instance_number=1,
        manufacturer="Somebody",
        patient_id=str(first.get("PatientID") or ""),
        patient_orientation=("L", "F"),
    )
    for keyword, value in changed.items():
        setattr(image, keyword, value)
    image.save_as(folder / "capture.dcm")
    return folder


def results(folder: Path, source: SourceSeries, *, pictures: bool = True) -> Findings:
    given = {"name": "x", "version": "1", "modality": "CT", "contract": "mercure", "pictures": pictures}
    options = read_options(ContainerOptions, given)
    first = pydicom.dcmread(source.paths[0], stop_before_pixels=True)
    images = source.volume()
    return Results(folder=folder, options=options, images=images, source=first, pictures=options.pictures).findings()


def test_a_secondary_capture_of_a_container_becomes_a_picture_where_that_is_asked_for(source, tmp_path):
    taken = results(capture(tmp_path / "rgb", source), source)
    (picture,) = taken.pictures
    np.testing.assert_array_equal(picture.pixels, CHART)
    assert [str(remark) for remark in taken.remarks] == [
        "The container made the pictures of this result; what they show was not checked."
    ]
    (grey,) = results(capture(tmp_path / "grey", source, grey=True), source).pictures
    np.testing.assert_array_equal(grey.pixels, np.repeat(255 - CHART[..., :1], 3, axis=2))
    left = results(tmp_path / "rgb", source, pictures=False)
    assert left.pictures == ()
    assert "1 objects of Secondary Capture Image Storage" in str(left.remarks[0])


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"StudyInstanceUID": "1.2.3"}, "is about study 1.2.3"),
        ({"PatientID": "somebody else"}, "contradicts the images in PatientID"),
        ({"PixelData": bytes(4)}, "cannot be decoded"),
    ],
)
def test_a_capture_about_others_or_that_is_damaged_is_refused(source, tmp_path, changed, fault):
    with pytest.raises(PipelineError, match=fault):
        results(capture(tmp_path / "other", source, **changed), source)


def test_a_capture_that_is_too_large_is_left_out_and_counted(source, tmp_path):
    taken = results(capture(tmp_path / "large", source, Rows=20_000), source)
    assert taken.pictures == ()
    assert "1 objects of Secondary Capture" in str(taken.remarks[0])
