"""A whole node whose results readers reject: nothing more reaches the archive until an operator resumes it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from reader_edits import rejection_note
from whole_node import WholeNode, whole_node

from node.ledger.shadow import pipelines_in_shadow

pytestmark = pytest.mark.rotating

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
RULE = """
[pipelines.bright.stop]
expected_ppv = 0.95
stop_ppv = 0.05
analyses_between_false_stops = 100
"""
"""Two analyses without a confirmed lesion trip it: ln 100 is less than twice ln 19."""


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, pacs: real_peers.Orthanc) -> Iterator[WholeNode]:
    with whole_node(tmp_path / "node", pacs.dicom_port, extra=RULE) as running:
        yield running


def until(node: WholeNode, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120.0
    while not reached():
        assert time.monotonic() < deadline, node.log()
        time.sleep(0.5)


def scanned(node: WholeNode, folder: Path) -> str:
    """Send a study with one lesion; return its UID when the node has done with it."""
    study = generate_uid()
    write(ct_series(volume=with_lesion((8, 64, 64)), study=study), folder / study)
    real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, folder / study)
    node.finished(study, jobs=1)
    return study


def is_stopped(node: WholeNode) -> bool:
    """Whether a stop rule has tripped: a look at the ledger, of which a verb would compute for a second."""
    with node.ledger() as engine, engine.connect() as connection:
        return bool(pipelines_in_shadow(connection))


def in_shadow(node: WholeNode) -> list[dict[str, str]]:
    return json.loads(node.ainode("status", "--json").stdout)["in_shadow"]


@pytest.mark.timeout(900)
def test_rejected_results_stop_the_sending_until_an_operator_resumes_it(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path
):
    for _ in range(2):
        study = scanned(node, tmp_path / "ct")
        stored = [pacs.download(uid) for uid in pacs.instances()]
        (ours,) = [dataset for dataset in stored if dataset.StudyInstanceUID == study and dataset.SOPClassUID == SEG]
        image = ct_series(volume=with_lesion((8, 64, 64)), study=study)[0]
        note = rejection_note(image, codes.DCM.RejectedForQualityReasons, ours)
        note.save_as(tmp_path / "note.dcm", enforce_file_format=True)
        assert in_shadow(node) == []
        real_peers.dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, tmp_path / "note.dcm")
    until(node, lambda: is_stopped(node))
    (stop,) = in_shadow(node)
    assert stop["pipeline"] == "bright"
    assert "readers confirmed 0 of 2 lesions (0 %) in the latest 2 judged analyses" in stop["reason"]
    before = set(pacs.instances())

    kept = scanned(node, tmp_path / "ct")
    text = node.ainode("explain", kept).stdout
    assert "in shadow (stop rule): its results are kept here and sent to no destination" in text
    assert "kept in shadow: sent to no destination (stop rule): readers confirmed 0 of 2" in text
    assert "result" in text
    assert set(pacs.instances()) == before
    assert "Everything is accounted for." in node.ainode("account").stdout
    assert "IN SHADOW since" in node.ainode("status").stdout

    assert node.ainode("resume", "bright", "--reason", " ").returncode != 0
    assert node.ainode("resume", "bright", "--reason", "threshold corrected").returncode == 0
    sent = scanned(node, tmp_path / "ct")
    new = [pacs.download(uid) for uid in set(pacs.instances()) - before]
    assert {dataset.StudyInstanceUID for dataset in new} == {sent}
    assert in_shadow(node) == []
    trail = node.folder / "audit.log"
    until(node, lambda: "threshold corrected" in trail.read_text())
    assert "stop rule" in trail.read_text()
