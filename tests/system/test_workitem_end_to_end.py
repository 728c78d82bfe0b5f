"""A whole node that analyses on request only: from the workitem to the objects in Orthanc that it names."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from dicom_files import ct_series, write
from pydicom import Dataset
from real_peers import dcmtk, free_port, orthanc
from receivers import until
from whole_node import WholeNode
from workitem_scene import wanted

pytestmark = pytest.mark.rotating

TOKEN = "t" * 32
TABLES = """
[dicomweb]
enabled = true
port = {port}
[dicomweb.clients.ris]
token_file = "{token}"
services = ["watch", "request"]
[procedures.bright]
code = "AI-NODULE"
scheme = "99SITE"
meaning = "Bright things"
pipeline = "bright"
destinations = ["pacs"]
"""
UID = "1.2.826.0.1.3680043.8.498.7"


def test_a_requested_analysis_is_done_once_although_every_process_is_killed_after_201(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    port = free_port()
    with orthanc(tmp_path / "pacs") as pacs:
        tables = TABLES.format(port=port, token=tmp_path / "token")
        node = WholeNode(tmp_path / "node", pacs.dicom_port, extra=tables, rule='senders = ["NOBODY"]')
        images = ct_series(n=4, size=32)
        for image in images:
            image.PatientID, image.PatientName = "PAT1", "Surname^Given"
        study, series = str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID)
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60.0) as http:
            try:
                node.start()
                dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, *write(images, tmp_path / "images"))
                until(lambda: node.explain(study))
                body, json = wanted(study, series).to_json(), {"content-type": "application/dicom+json"}
                assert http.post(f"/workitems?{UID}", content=body, headers=json).status_code == 201
                node.kill()
                node.start()
                until(lambda: _step(http).ProcedureStepState == "COMPLETED", seconds=120.0)
                assert http.post(f"/workitems?{UID}", content=body, headers=json).status_code == 409
                explanation = node.finished(study, 1)
                step = _step(http)
            finally:
                node.kill()
            (performed,) = step.UnifiedProcedureStepPerformedProcedureSequence
            assert performed.PerformedProcedureStepStartDateTime < performed.PerformedProcedureStepEndDateTime
            named = {
                reference.ReferencedSOPInstanceUID
                for item in performed.OutputInformationSequence
                for reference in item.ReferencedSOPSequence
            }
            titles = {item.DICOMRetrievalSequence[0].RetrieveAETitle for item in performed.OutputInformationSequence}
            assert titles == {"ORTHANC"}
            assert named == set(pacs.instances())
            assert named
            (event,) = [event for event in explanation["timeline"] if event["kind"] == "requested"]
            assert event
            assert "PAT1" not in node.log()
            assert "Surname" not in node.log()


def _step(http: httpx.Client) -> Dataset:
    answer = http.get(f"/workitems/{UID}")
    if answer.status_code != 200:
        pytest.fail(answer.text)
    return Dataset.from_json(answer.text)
