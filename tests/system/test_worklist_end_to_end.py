"""A whole node whose rule asks for an order that only dcmtk's worklist has."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_files import ct_series, write
from real_peers import dcmtk, orthanc
from receivers import until
from whole_node import WholeNode
from worklists import Wlmscpfs, entry
from worklists import write as write_entries

from node.operate.explain_text import describe

pytestmark = pytest.mark.rotating

WORKLIST = """
[orders.worklist]
title = "RISWL"
host = "127.0.0.1"
port = {port}
wait_seconds = {seconds}
"""
MATCH = '"order.priority" = ["STAT", "HIGH"]\n"order.procedure_code" = "CTCHEST"\n'


@pytest.fixture
def ris(tmp_path: Path) -> Wlmscpfs:
    server = Wlmscpfs(tmp_path / "worklist")
    write_entries(server.folder, entry(), entry(PatientID="PAT9", AccessionNumber="A9"))
    return server


def send(folder: Path, node: WholeNode) -> str:
    images = ct_series(n=4, size=32)
    for image in images:
        image.PatientID, image.IssuerOfPatientID, image.AccessionNumber = "PAT1", "HOSP", "A1"
    files = write(images, folder / "images")
    dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, *files)
    return str(images[0].StudyInstanceUID)


def text(node: WholeNode, study: str) -> str:
    explanation = node.explain(study)
    return describe(explanation) if explanation else ""


def test_a_study_walks_by_the_order_of_the_worklist_although_the_sender_is_killed(tmp_path: Path, ris: Wlmscpfs):
    """The worklist is down when the study comes, and the process that asks it dies before it answers."""
    with orthanc(tmp_path / "pacs") as pacs:
        table = WORKLIST.format(port=ris.port, seconds=120)
        node = WholeNode(tmp_path / "node", pacs.dicom_port, extra=table)
        node.config.write_text(node.config.read_text() + MATCH)
        try:
            node.start()
            study = send(tmp_path, node)
            until(lambda: "did not answer" in text(node, study) and "waits until" in text(node, study))
            node.kill_role("sender")
            ris.start()
            explanation = node.finished(study, 1)
            assert [
                (job["priority"], job["pipeline"]) for series in explanation["series"] for job in series["jobs"]
            ] == [(1, "bright")]
            assert [order["of_worklist"] for order in explanation["orders"]] == [True]
            assert "STAT, active, from the worklist" in text(node, study)
            assert pacs.instances()
            assert "PAT1" not in node.log()
            assert "answers in" in node.ainode("check").stdout.split("worklist", 1)[1].splitlines()[0]
        finally:
            node.kill()
            ris.stop()
