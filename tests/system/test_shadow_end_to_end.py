"""A candidate beside the champion in a whole node: analysed, shown, accounted for, and never sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom.uid import generate_uid
from whole_node import WholeNode, whole_node

CANDIDATE = '[pipelines.bright-2]\nfactory = "whole_node:create"\n'


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
    node.finished(study, jobs=2)
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
