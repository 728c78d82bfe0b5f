"""A retrospective run: a whole node fetches a list from Orthanc, killed in between, and the routine goes first."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from lesion_studies import store, with_lesion
from receivers import until
from whole_node import WholeNode, whole_node

from node.ledger.fetch_lists import open_fetches
from node.ledger.jobs import list_jobs
from node.ledger.states import PRIORITIES, JobState

pytestmark = pytest.mark.rotating

STUDIES = 10
OPEN = 2


def archived(folder: Path, archive: real_peers.Orthanc) -> dict[str, str]:
    """Chest CTs in the archive: their studies, by accession number."""
    studies = {}
    for number in range(STUDIES):
        images = ct_series(volume=with_lesion())
        for image in images:
            image.AccessionNumber, image.RequestedProcedurePriority = f"A{number}", "STAT"
        write(images, folder / str(number))
        studies[f"A{number}"] = str(images[0].StudyInstanceUID)
    real_peers.dcmtk("storescu", "-aec", archive.aet, "+sd", "+r", "127.0.0.1", archive.dicom_port, folder)
    return studies


def progress(node: WholeNode) -> dict[str, int]:
    shown = node.ainode("fetches", "--json")
    assert shown.returncode == 0, shown.stderr
    [fetch_list] = json.loads(shown.stdout)["lists"]
    items: dict[str, int] = fetch_list["items"]
    return items


def most_open(node: WholeNode, until_fetched: int, seconds: float = 300.0) -> int:
    """Wait until so many items are fetched; return the most analyses of fetched studies that were open at a time."""
    deadline, most = time.monotonic() + seconds, 0
    while True:
        with node.ledger() as engine, engine.connect() as connection:
            most = max(most, open_fetches(connection))
        if progress(node).get("fetched", 0) >= until_fetched:
            return most
        assert time.monotonic() < deadline, node.log()


def test_a_list_is_fetched_and_analysed_to_its_end_beside_the_routine(tmp_path: Path) -> None:
    extra = f"[fetch]\nopen_analyses = {OPEN}\n"
    with real_peers.orthanc(tmp_path) as pacs:
        studies = archived(tmp_path / "archive", pacs)
        lines = tmp_path / "list.txt"
        lines.write_text("\n".join([*studies, "A99"]))
        with whole_node(tmp_path / "node", pacs.dicom_port, extra=extra) as node:
            text = node.config.read_text().replace("[destinations.pacs]", '[destinations.pacs]\nretrieve = "get"')
            node.config.write_text(text)
            node.kill()
            node.start()
            queued = node.ainode("fetch", "pacs", "--queue", "--list", str(lines))
            assert queued.returncode == 0, queued.stderr
            most = most_open(node, 2)
            node.kill_role("sender")
            write(ct_series(volume=with_lesion()), tmp_path / "routine")
            store(node, tmp_path / "routine")
            most = max(most, most_open(node, 4))
            node.kill_role("receiver")
            most = max(most, most_open(node, 6))
            node.kill()
            node.start()
            most = max(most, most_open(node, STUDIES))
            until(lambda: progress(node) == {"fetched": STUDIES, "not found": 1}, 60.0)
            for study in studies.values():
                node.finished(study, 1)
            with node.ledger() as engine, engine.connect() as connection:
                jobs = list_jobs(connection)
            missing = json.loads(node.ainode("fetches", "--missing", "1", "--json").stdout)
            account = node.ainode("account")
    assert 1 <= most <= OPEN
    assert [(item["value"], item["state"]) for item in missing] == [("A99", "not found")]
    assert all(job.state == JobState.COMPLETED for job in jobs)
    fetched = [job for job in jobs if job.study_instance_uid in studies.values()]
    assert sorted(job.study_instance_uid for job in fetched) == sorted(studies.values())
    assert {job.priority for job in fetched} == {PRIORITIES["low"]}
    assert [job.priority for job in jobs if job not in fetched] == [PRIORITIES["medium"]]
    assert account.returncode == 0, account.stdout
