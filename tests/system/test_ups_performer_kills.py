"""A whole node performs a workitem of another system, with images and results in Orthanc, and kill -9 at every step."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_files import ct_series, write
from real_peers import dcmtk, free_port, orthanc
from receivers import until
from ups_manager import TOKEN, ups_manager
from whole_node import WholeNode
from workitem_scene import wanted

pytestmark = pytest.mark.rotating

TABLES = """
[orders.ups]
url = "{url}"
token_file = "{token}"
poll_seconds = 1.0
source = "pacs"
[procedures.bright]
code = "AI-NODULE"
scheme = "99SITE"
meaning = "Bright things"
pipeline = "bright"
destinations = ["pacs"]
"""
UID = "1.2.826.0.1.3680043.8.498.9"


def test_a_workitem_is_performed_once_although_the_node_is_killed_at_every_step(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    port = free_port()
    with ups_manager() as manager, orthanc(tmp_path / "pacs", {"AINODE": port}) as pacs:
        images = ct_series(n=4, size=32)
        for image in images:
            image.PatientID, image.PatientName = "PAT1", "Surname^Given"
        study, series = str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID)
        dcmtk("storescu", "-aec", "ORTHANC", "127.0.0.1", pacs.dicom_port, *write(images, tmp_path / "images"))
        tables = TABLES.format(url=manager.url, token=tmp_path / "token")
        node = WholeNode(tmp_path / "node", pacs.dicom_port, extra=tables, rule='senders = ["NOBODY"]')
        node.config.write_text(node.config.read_text().replace(f"port = {node.port}\n", f"port = {port}\n"))

        def killed_when(condition: object) -> None:
            until(condition, seconds=120.0)
            node.kill()
            node.start()

        try:
            manager.breaks = 1  # its claim is done, and the node does not learn it
            manager.add(UID, wanted(study, series, PatientID="PAT1"))
            node.start()
            killed_when(lambda: manager.state(UID) == "IN PROGRESS")
            killed_when(lambda: node.explain(study))  # images come
            manager.breaks = 0
            killed_when(lambda: [row for row in node.explain(study)["series"] if row["jobs"]])
            until(lambda: manager.state(UID) == "COMPLETED", seconds=120.0)
            node.kill()
            calls = len(manager.calls)
            node.start()
            until(lambda: len(manager.calls) > calls, seconds=60.0)
            node.finished(study, 1)
        finally:
            node.kill()
        assert manager.changes == [(UID, "IN PROGRESS"), (UID, "COMPLETED")]
        (performed,) = manager.step(UID).UnifiedProcedureStepPerformedProcedureSequence
        named = {
            reference.ReferencedSOPInstanceUID
            for item in performed.OutputInformationSequence
            for reference in item.ReferencedSOPSequence
        }
        originals = {str(image.SOPInstanceUID) for image in images}
        assert named
        assert named == set(pacs.instances()) - originals
        assert "PAT1" not in node.log()
        assert "Surname" not in node.log()
