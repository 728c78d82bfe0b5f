"""kill -9 of any role, or of everything, at any moment: nothing is lost and nothing is delivered twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
import real_peers
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from whole_node import START_SECONDS, WholeNode, whole_node

from node.operate.explain_text import describe

pytestmark = pytest.mark.rotating

STUDIES = 4


def send_until_taken(node: WholeNode, folder: Path) -> None:
    """What a scanner does: the whole study again until every image was answered with Success."""
    for _ in range(60):
        try:
            real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, folder, timeout=30.0)
        except AssertionError:
            time.sleep(0.5)
        else:
            return
    pytest.fail("the receiver did not come back")


def test_every_role_killed_again_and_again_loses_nothing_and_delivers_once(tmp_path: Path):
    dice = random.Random(11)
    with real_peers.orthanc(tmp_path) as pacs, whole_node(tmp_path / "node", pacs.dicom_port) as node:
        studies = []
        for number in range(STUDIES):
            series = ct_series(volume=np.roll(with_lesion(), number, axis=2))
            write(series, tmp_path / str(number))
            studies.append(series)
            send_until_taken(node, tmp_path / str(number))
            for role in dice.sample(("receiver", "router", "worker", "sender"), 2):
                time.sleep(dice.uniform(0.0, 3.0))
                node.kill_role(role, START_SECONDS)
            if number == STUDIES // 2:  # a power cut
                node.kill()
                node.start()
        due = [
            made["sop_instance_uid"]
            for series in studies
            for job in node.finished(series[0].StudyInstanceUID, jobs=1, seconds=200.0)["series"][0]["jobs"]
            for made in job["results"]
        ]
        assert len(due) == len(set(due)) == STUDIES * (1 + 1 + len(studies[0]))
        assert pacs.instances() == sorted(due)
        for series in studies:
            for dataset in series:
                where = f"{dataset.StudyInstanceUID}/{dataset.SeriesInstanceUID}/{dataset.SOPInstanceUID}.dcm"
                assert (node.folder / "incoming" / where).is_file()
        for verb in ("account", "verify"):
            told = node.ainode(verb)
            assert told.returncode == 0, told.stdout


def test_a_pacs_that_is_down_gets_its_results_when_it_comes_back(tmp_path: Path):
    with real_peers.orthanc(tmp_path) as pacs, whole_node(tmp_path / "node", pacs.dicom_port) as node:
        pacs.kill()
        series = ct_series(volume=with_lesion())
        write(series, tmp_path / "study")
        send_until_taken(node, tmp_path / "study")
        deadline = time.monotonic() + 90
        while not ((explanation := node.explain(series[0].StudyInstanceUID)) and "last error" in describe(explanation)):
            assert time.monotonic() < deadline, node.log()
            time.sleep(0.5)
        told = node.ainode("explain", series[0].StudyInstanceUID).stdout
        assert "delivery to pacs: SCHEDULED" in told or "delivery to pacs: IN PROGRESS" in told
        pacs.start()
        job = node.finished(series[0].StudyInstanceUID, jobs=1)["series"][0]["jobs"][0]
        assert pacs.instances() == sorted(made["sop_instance_uid"] for made in job["results"])
        assert node.stop() == 0


def test_a_deleted_ledger_is_rebuilt_and_the_pacs_holds_the_same_instances_as_before(tmp_path: Path):
    with real_peers.orthanc(tmp_path) as pacs, whole_node(tmp_path / "node", pacs.dicom_port) as node:
        series = ct_series(volume=with_lesion())
        write(series, tmp_path / "study")
        send_until_taken(node, tmp_path / "study")
        node.finished(series[0].StudyInstanceUID, jobs=1, seconds=200.0)
        before = pacs.instances()
        node.kill()
        for file in node.folder.glob("ledger.sqlite*"):
            file.unlink()
        node.start()
        node.finished(series[0].StudyInstanceUID, jobs=1, seconds=200.0)
        assert pacs.instances() == before
        for verb in ("account", "verify"):
            told = node.ainode(verb)
            assert told.returncode == 0, told.stdout
