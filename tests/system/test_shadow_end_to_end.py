"""A candidate beside the champion in a whole node: analysed, shown, accounted for, and never sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom.uid import generate_uid
from reader_edits import arrays_of, cube, workstation_seg
from whole_node import WholeNode, whole_node

from node.studies.source import SourceSeries

pytestmark = [pytest.mark.rotating, pytest.mark.timeout(1500)]

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
CANDIDATE = '[pipelines.bright-2]\nfactory = "bright_pipeline:create"\n'


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, pacs: real_peers.Orthanc) -> Iterator[WholeNode]:
    rule = 'shadow = ["bright-2"]'
    with whole_node(tmp_path / "node", pacs.dicom_port, extra=CANDIDATE, rule=rule) as running:
        yield running


def scanned(node: WholeNode, folder: Path) -> str:
    """Send a study with one lesion; return its UID when champion and candidate have done with it."""
    study = generate_uid()
    write(ct_series(volume=with_lesion((8, 64, 64)), study=study), folder / study)
    real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, folder / study)
    node.finished(study, jobs=2, seconds=600.0)  # the candidate has a tenth of a busy core
    return study


def jobs_of(node: WholeNode, study: str) -> dict[str, dict]:
    return {job["pipeline"]: job for series in node.explain(study)["series"] for job in series["jobs"]}


def test_only_the_results_of_the_champion_reach_the_archive(node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path):
    study = scanned(node, tmp_path / "ct")
    jobs = jobs_of(node, study)
    sent, tried = ({result["sop_instance_uid"] for result in jobs[name]["results"]} for name in ("bright", "bright-2"))
    assert sent
    assert len(tried) == len(sent)
    assert {str(pacs.download(uid).SOPInstanceUID) for uid in pacs.instances()} == sent
    assert (jobs["bright"]["shadow"], jobs["bright-2"]["shadow"]) == (None, "trial")
    assert jobs["bright-2"]["deliveries"] == []
    account = node.ainode("account").stdout
    assert "Everything is accounted for." in account
    assert "tried in shadow" in account
    (shown,) = json.loads(node.ainode("status", "--json").stdout)["studies"]
    assert shown["progress"] == "stored"


def test_the_report_compares_both_on_what_a_reader_confirmed_and_added(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path
):
    study = scanned(node, tmp_path / "ct")
    source = SourceSeries.read(sorted((tmp_path / "ct" / study).iterdir()))
    (ours,) = [dataset for dataset in map(pacs.download, pacs.instances()) if dataset.SOPClassUID == SEG]
    ((label, mask),) = arrays_of(ours, source).items()
    edited = workstation_seg(source, {label: mask, "Missed": cube(mask.shape, (5, 50, 50), (7, 56, 57))})
    edited.save_as(tmp_path / "edited.dcm", enforce_file_format=True)
    real_peers.dcmtk("storescu", "-R", "-aec", "AINODE", "127.0.0.1", node.port, tmp_path / "edited.dcm")

    def report() -> dict:
        return json.loads(node.ainode("trial", "report", "bright", "bright-2", "--json").stdout)

    deadline = time.monotonic() + 60.0
    while (comparison := report())["hits"] is None:
        assert time.monotonic() < deadline, node.log()
        time.sleep(1.0)
    assert (comparison["analyses"], comparison["paired"], comparison["without_masks"]) == (1, 1, 0)
    assert comparison["disagreements"] == []
    hits = {name: comparison["hits"][name] for name in ("both", "champion_only", "candidate_only", "neither")}
    assert hits == {"both": 1, "champion_only": 0, "candidate_only": 0, "neither": 1}
    text = node.ainode("trial", "report", "bright", "bright-2").stdout
    assert "1 series, analysed by bright 1.0 (champion) and bright-2 1.0 (candidate)" in text
    assert "2 lesions that readers confirmed or added: 1 found by both" in text
    assert node.ainode("trial", "report", "bright", "unknown").returncode == 2


def sent(pacs: real_peers.Orthanc, node: WholeNode, study: str) -> set[str]:
    """Pipelines whose results of a study the archive has."""
    there = {str(dataset.SOPInstanceUID) for dataset in map(pacs.download, pacs.instances())}
    jobs = jobs_of(node, study).items()
    return {name for name, job in jobs if there & {result["sop_instance_uid"] for result in job["results"]}}


def test_a_promoted_candidate_answers_without_a_restart_until_it_is_rolled_back(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path
):
    first = scanned(node, tmp_path / "ct")
    assert node.ainode("trial", "rollback", "bright", "--reason", "none").returncode != 0
    assert node.ainode("trial", "promote", "bright-2", "bright", "--reason", "the wrong way round").returncode == 2
    assert node.ainode("trial", "promote", "bright", "bright-2", "--reason", "more hits").returncode == 0
    second = scanned(node, tmp_path / "ct")
    assert "PROMOTED since" in node.ainode("status").stdout
    node.kill_role("router", seconds=30.0)
    third = scanned(node, tmp_path / "ct")
    assert node.ainode("trial", "rollback", "bright", "--reason", "slower").returncode == 0
    fourth = scanned(node, tmp_path / "ct")
    answered = [sent(pacs, node, study) for study in (first, second, third, fourth)]
    assert answered == [{"bright"}, {"bright-2"}, {"bright-2"}, {"bright"}]
    assert "Everything is accounted for." in node.ainode("account").stdout
    trail = (node.folder / "audit.log").read_text()
    assert "promoted pipeline bright-2 in the place of bright: more hits" in trail
    assert json.loads(node.ainode("status", "--json").stdout)["promotions"] == []
