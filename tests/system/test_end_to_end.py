"""The node as a whole: dcmtk sends, the node's own processes work, a real PACS receives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import real_peers
import sqlalchemy as sa
from bright_pipeline import BRIGHT
from dicom_files import ct_series, mr_series, secondary_capture, text_report, write
from lesion_studies import SR3D, results, store, with_lesion
from pydicom import FileDataset
from pydicom.uid import CTImageStorage, MRImageStorage, SegmentationStorage, generate_uid
from receivers import until
from stored_reasons import codes_of
from whole_node import WholeNode, whole_node

from node.ledger.engine import ledger_url
from node.log import study_lines


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path_factory.mktemp("pacs")) as running:
        yield running


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: real_peers.Orthanc) -> Iterator[WholeNode]:
    with whole_node(tmp_path_factory.mktemp("node"), pacs.dicom_port) as running:
        yield running


def positions_inside(segmentation: FileDataset) -> set[tuple[float, ...]]:
    """Patient coordinates (LPS mm) of every voxel of segment 1."""
    volume = hd.seg.Segmentation.from_dataset(segmentation).get_volume(segment_numbers=[1], combine_segments=True)
    inside = np.argwhere(volume.array > 0)
    return {tuple(p) for p in np.round(volume.map_indices_to_reference(inside), 2)}


def expected_positions(series: list[FileDataset]) -> set[tuple[float, ...]]:
    positions = set()
    for dataset in series:
        cosines = np.asarray(dataset.ImageOrientationPatient, float)
        origin = np.asarray(dataset.ImagePositionPatient, float)
        row_spacing, column_spacing = (float(v) for v in dataset.PixelSpacing)
        values = dataset.pixel_array * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
        for row, column in np.argwhere(values >= BRIGHT):
            point = origin + cosines[3:] * row_spacing * row + cosines[:3] * column_spacing * column
            positions.add(tuple(np.round(point, 2)))
    return positions


def test_the_node_answers_c_echo(node: WholeNode):
    real_peers.dcmtk("echoscu", "-aec", "AINODE", "127.0.0.1", node.port)


def test_the_router_has_no_decoder_in_its_memory(node: WholeNode):
    maps = node.role_maps("router")
    assert "numpy" in maps
    assert not {name for name in ("gdcm", "PIL/", "openjpeg", "jpeg_ls") if name in maps}


@pytest.mark.walk
def test_a_jpeg_lossless_ct_from_storescu_comes_back_as_seg_sr_and_derived_series(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path
):
    series = ct_series(volume=with_lesion())
    for dataset in series:
        dataset.PatientName = "Müller^Jürgen"
        dataset.SpecificCharacterSet = "ISO_IR 100"
    plain = write(series, tmp_path / "plain")
    (tmp_path / "jpeg").mkdir()
    for path in plain:
        real_peers.dcmtk("dcmcjpeg", "+e1", path, tmp_path / "jpeg" / path.name)
    store(node, tmp_path / "jpeg", "-xs")

    held = results(node.finished(series[0].StudyInstanceUID, jobs=1), pacs)
    assert {uid: len(objects) for uid, objects in held.items()} == {SegmentationStorage: 1, SR3D: 1, CTImageStorage: 6}
    (segmentation,) = held[SegmentationStorage]
    assert positions_inside(segmentation) == expected_positions(series)
    assert segmentation.FrameOfReferenceUID == series[0].FrameOfReferenceUID
    for dataset in (d for objects in held.values() for d in objects):
        assert dataset.StudyInstanceUID == series[0].StudyInstanceUID
        assert dataset.SeriesInstanceUID != series[0].SeriesInstanceUID
        assert dataset.PatientID == series[0].PatientID
        assert dataset.PatientName == "Müller^Jürgen"
    halves = sorted(held[CTImageStorage], key=lambda d: float(d.ImagePositionPatient[2]))
    for half, source in zip(halves, series, strict=True):
        assert half.ImagePositionPatient == source.ImagePositionPatient
        ours = half.pixel_array * half.RescaleSlope + half.RescaleIntercept
        theirs = source.pixel_array * source.RescaleSlope + source.RescaleIntercept
        np.testing.assert_allclose(ours, theirs / 2, atol=1.0)
    lines = study_lines(node.folder / "logs", str(series[0].StudyInstanceUID), 100)
    assert {
        "node.routing.router",
        "node.inference.infer_stage",
        "node.inference.encode_stage",
        "node.deliver.deliverer",
    } <= {line["logger"] for line in lines}
    assert "Jürgen" not in str(lines)


def test_a_sagittal_mr_from_dcmsend_with_a_japanese_name_comes_back_at_the_same_place(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path
):
    series = mr_series(volume=with_lesion(background=100), orientation=(0, 1, 0, 0, 0, -1))
    for dataset in series:
        dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        dataset.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    write(series, tmp_path)
    real_peers.dcmtk("dcmsend", "-aec", "AINODE", "--scan-directories", "127.0.0.1", node.port, tmp_path)

    held = results(node.finished(series[0].StudyInstanceUID, jobs=1), pacs)
    assert set(held) == {SegmentationStorage, SR3D, MRImageStorage}
    assert positions_inside(held[SegmentationStorage][0]) == expected_positions(series)
    for dataset in (d for objects in held.values() for d in objects):
        assert dataset.PatientName == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_results_that_the_pacs_routes_back_to_us_are_not_analysed_again(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path
):
    series = ct_series(volume=with_lesion())
    write(series, tmp_path / "in")
    store(node, tmp_path / "in")
    held = results(node.finished(series[0].StudyInstanceUID, jobs=1), pacs)
    write(held[CTImageStorage], tmp_path / "back")
    store(node, tmp_path / "back")
    until(lambda: len(node.explain(series[0].StudyInstanceUID)["series"]) == 2, 60)
    until(lambda: all(s["state"] == "COMPLETE" for s in node.explain(series[0].StudyInstanceUID)["series"]), 60)
    derived = node.explain(series[0].StudyInstanceUID)["series"][1]
    assert derived["jobs"] == []
    assert derived["decisions"][0]["reason"] == "it is a result of this node"


@pytest.mark.parametrize(
    "expected",
    [
        ("dark", "no findings", ""),
        ("short", "not applicable", "the series has 2 images, at least 3 are needed"),
        ("gap", "partial", ""),
        ("truncated", "failed", "NOT ANALYSED: one image cannot be read."),
        ("no geometry", "not applicable", "ImagePositionPatient is missing"),
    ],
)
def test_every_outcome_reaches_the_pacs_as_a_report_with_its_reason(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path, expected: tuple[str, str, str]
):
    change, outcome, reason = expected
    series = ct_series(volume=with_lesion() if change != "dark" else np.full((6, 32, 32), -800))
    if change == "short":
        series = series[:2]
    elif change == "gap":
        del series[3]
    elif change == "truncated":
        series[2].PixelData = series[2].PixelData[:1000]
    elif change == "no geometry":
        for dataset in series:
            del dataset.ImagePositionPatient
    write(series, tmp_path)
    store(node, tmp_path)
    explanation = node.finished(series[0].StudyInstanceUID, jobs=1)
    job = explanation["series"][0]["jobs"][0]
    assert job["outcome"] == outcome
    assert reason in (job["reason"] or "")
    report = next(d for d in results(explanation, pacs)[SR3D])
    text = " ".join(str(element.value) for element in report.iterall() if element.keyword == "TextValue")
    assert outcome in text.lower()
    assert reason in text


def test_localizers_reports_and_screenshots_are_ignored_and_explain_says_why(node: WholeNode, tmp_path: Path):
    study = generate_uid()
    localizer = ct_series(n=1, study=study)
    localizer[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    other = ct_series(n=1, study=study)
    other[0].Modality = "OT"
    write([*localizer, *other, text_report(study=study), secondary_capture(study=study)], tmp_path)
    store(node, tmp_path, "-R")
    until(lambda: [s["state"] for s in node.explain(study).get("series", [])] == ["COMPLETE"] * 4, 60)
    told = node.ainode("explain", study).stdout
    assert "it is a localizer (ImageType)" in told
    assert "its objects are no images" in told
    assert "its images are secondary captures" in told
    assert "no rule matches" in told
    assert "NO  Modality wanted ['CT', 'MR'], found OT" in told
    assert json.loads(node.ainode("explain", "--json", study).stdout)["study_instance_uid"] == study


def test_late_images_make_a_new_generation_with_results_of_its_own(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path
):
    series = ct_series(volume=with_lesion())
    write(series[:5], tmp_path / "first")
    write(series[5:], tmp_path / "late")
    store(node, tmp_path / "first")
    node.finished(series[0].StudyInstanceUID, jobs=1)
    store(node, tmp_path / "late")
    explanation = node.finished(series[0].StudyInstanceUID, jobs=2)
    assert [d["generation"] for d in explanation["series"][0]["decisions"]] == [1, 2]
    assert len({d.SOPInstanceUID for d in results(explanation, pacs)[SegmentationStorage]}) == 2


def test_a_resend_of_the_same_images_does_nothing(node: WholeNode, tmp_path: Path):
    series = ct_series(volume=with_lesion())
    write(series, tmp_path)
    store(node, tmp_path)
    before = node.finished(series[0].StudyInstanceUID, jobs=1)
    store(node, tmp_path)
    after = node.explain(series[0].StudyInstanceUID)
    for key in ("instances", "generation", "decisions"):
        assert [row[key] for row in after["series"]] == [row[key] for row in before["series"]]
    assert [len(row["jobs"]) for row in after["series"]] == [1]


@pytest.mark.parametrize("verb", ["account", "verify"])
def test_after_all_of_this_nothing_is_unaccounted_for_and_no_file_is_wrong(node: WholeNode, verb: str):
    told = node.ainode(verb)
    assert told.returncode == 0, told.stdout


def test_status_counts_and_names_what_runs(node: WholeNode):
    told = node.ainode("status").stdout
    assert "COMPLETED" in told
    assert "1 worker" in told
    assert "1 sender" in told


def test_check_finds_every_part_ready(node: WholeNode, pacs: real_peers.Orthanc):
    checked = node.ainode("check")
    assert checked.returncode == 0, checked.stdout
    assert "this node answers C-ECHO" in checked.stdout
    assert f"ORTHANC at 127.0.0.1:{pacs.dicom_port} answers in" in checked.stdout


def test_after_all_this_the_ledger_has_codes_where_reasons_belong(node: WholeNode) -> None:
    engine = sa.create_engine(ledger_url("", node.folder))
    codes = codes_of(engine)
    engine.dispose()
    assert codes >= {"matches", "own result", "localizer", "stated", "not analysed", "incomplete", "together"}
