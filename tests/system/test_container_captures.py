"""Secondary captures of a real container, through a whole node to real archives."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import pytest
import real_peers
from containers import Podman, podman_of
from dicom_files import ct_series, write
from highdicom.sc import SCImage
from lesion_studies import results, store
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from whole_node import WholeNode

pytestmark = pytest.mark.timeout(600)
CHART = np.zeros((50, 71, 3), np.uint8)
CHART[10:30, 20:40] = (255, 128, 0)
MODEL = """
import json, os, shutil
made = os.environ["MERCURE_OUT_DIR"]
shutil.copyfile("/results/capture.dcm", os.path.join(made, "capture.dcm"))
json.dump({"share": 0.25}, open(os.path.join(made, "result.json"), "w"))
"""
TABLES = """
[pipelines.chart]
factory = "{factory}"
[pipelines.chart.options]
name = "Chart"
version = "1"
modality = "CT"
contract = "mercure"
pictures = true
measurements = [{{ key = "share", name = ["SHARE", "99TEST", "Share of bright voxels"], unit = "1" }}]
[pipelines.chart.options.run]
engine = "{engine}"
memory_gib = 0.5
temporary_gib = 0.1
[destinations.viewer]
title = "VIEWER"
host = "127.0.0.1"
port = {port}
objects = ["sr", "key images"]
"""
OBJECTS = 'objects = ["sr", "key images"]'


@pytest.fixture
def podman() -> Iterator[Podman]:
    with TemporaryDirectory(prefix="podman-") as folder:
        yield podman_of(Path(folder))


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[real_peers.StoreScp]:
    with real_peers.storescp(tmp_path / "viewer", aet="VIEWER") as running:
        yield running


def capture(of: pydicom.Dataset) -> bytes:
    """What a module writes about the patient of an image: its own UIDs, maker and series."""
    image = SCImage(
        pixel_array=CHART,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=of.StudyInstanceUID,
        series_instance_uid=generate_uid(),
        sop_instance_uid=generate_uid(),
        series_number=1,
        instance_number=1,
        manufacturer="Somebody",
        patient_id=of.PatientID,
        patient_orientation=("L", "F"),
    )
    buffer = pydicom.filebase.DicomBytesIO()
    image.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.rotating
def test_a_capture_of_a_container_comes_to_the_archives_as_ours_and_one_of_another_patient_to_none(
    podman: Podman, pacs: real_peers.Orthanc, viewer: real_peers.StoreScp, tmp_path: Path
) -> None:
    scan, other = ct_series(n=6, size=24), ct_series(n=6, size=24)
    given = capture(scan[0])
    files = {"/model.py": MODEL.encode(), "/results/capture.dcm": given}
    factory = podman.image("chart", files, ["/bin/python3", "/model.py"])
    tables = TABLES.format(factory=factory, engine=podman.command, port=viewer.port)
    node = WholeNode(tmp_path / "node", pacs.dicom_port, extra=tables)
    text = node.config.read_text().replace('pipelines = ["bright"]', 'pipelines = ["chart"]')
    text = text.replace('destinations = ["pacs"]', 'destinations = ["pacs", "viewer"]')
    node.config.write_text(text.replace("[destinations.pacs]", f"[destinations.pacs]\n{OBJECTS}"))
    try:
        node.start()
        write(scan, tmp_path / "scan")
        store(node, tmp_path / "scan")
        held = results(node.finished(scan[0].StudyInstanceUID, jobs=1, seconds=300), pacs)
        (ours,) = held[SecondaryCaptureImageStorage]
        theirs = pydicom.dcmread(pydicom.filebase.DicomBytesIO(given))
        np.testing.assert_array_equal(ours.pixel_array[:50, :71], CHART)
        assert ours.pixel_array[:, 80:].any(), "label, algorithm and notice"
        assert {ours.SOPInstanceUID, ours.SeriesInstanceUID}.isdisjoint(
            {theirs.SOPInstanceUID, theirs.SeriesInstanceUID}
        )
        assert (ours.StudyInstanceUID, ours.PatientID) == (scan[0].StudyInstanceUID, scan[0].PatientID)
        assert ours.PatientName == scan[0].PatientName
        assert "Somebody" not in str(ours)
        assert "PatientOrientation" not in ours or not ours.PatientOrientation
        assert [item.ReferencedSOPInstanceUID for item in ours.SourceImageSequence] == [
            image.SOPInstanceUID for image in scan
        ]
        reports = [dataset for objects in held.values() for dataset in objects if dataset.Modality == "SR"]
        assert any("The container made the pictures of this result" in report.to_json() for report in reports)
        assert any("Share of bright voxels" in report.to_json() for report in reports)
        (shown,) = [path for path in viewer.files() if pydicom.dcmread(path).Modality == ours.Modality]
        np.testing.assert_array_equal(pydicom.dcmread(shown).pixel_array, ours.pixel_array)
        faults = subprocess.run([real_peers.program("dcm2json"), shown], capture_output=True, check=False)
        assert faults.returncode == 0, faults.stderr.decode()[-500:]

        before = len(viewer.files())
        for dataset in other:
            dataset.PatientID = "ANOTHER"
        write(other, tmp_path / "other")
        store(node, tmp_path / "other")
        explanation = node.finished(other[0].StudyInstanceUID, jobs=1, seconds=300)
        (job,) = (job for series in explanation["series"] for job in series["jobs"])
        assert job["outcome"] == "failed"
        assert " is about study " in node.log(), job["reason"]
        later = [pydicom.dcmread(path) for path in viewer.files()]
        assert [item.Modality for item in later if item.StudyInstanceUID == other[0].StudyInstanceUID] == ["SR"]
        assert len(later) == before + 1
    finally:
        node.kill()
    assert podman.run("ps", "-a", "--format", "{{.Names}}") == ""
