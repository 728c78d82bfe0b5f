"""A whole node: the page of a second study shows the finding of the first, until retention has purged it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import real_peers
import sqlalchemy as sa
from dashboards import PASSWORD, token
from dicom_files import ct_series, write
from lesion_studies import results, store, with_lesion
from pydicom.uid import EncapsulatedPDFStorage
from whole_node import WholeNode

from node.config.loader import parse
from node.ledger.engine import ledger_url, now, open_ledger
from node.operate.purge import Retention
from node.spool import Spool
from node.web.users import make_user, write_user

pytestmark = pytest.mark.rotating

DAY = 86400.0


def page_of(node: WholeNode, port: int, study: str) -> str:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120.0, trust_env=False) as browser:
        login = {"csrf": token(browser, "/login"), "name": "rita", "password": PASSWORD}
        assert browser.post("/login", data=login).status_code == 303
        answer = browser.get(f"/study/{study}")
    assert answer.status_code == 200, node.log()
    return answer.text


def listed_in_pdf(node: WholeNode, pacs: real_peers.Orthanc, study: str, folder: Path) -> bool:
    (report,) = results(node.explain(study), pacs)[EncapsulatedPDFStorage]
    file = folder / "report.pdf"
    file.write_bytes(report.EncapsulatedDocument)
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("pdftotext is not installed (Debian package poppler-utils)")
    text = subprocess.run([program, file, "-"], check=True, capture_output=True, text=True).stdout
    return "Similar earlier findings" in text and "Bright 1: 4 mm" in text


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path / "orthanc") as running:
        yield running


def test_the_page_of_a_study_shows_similar_findings_of_earlier_ones_until_they_are_purged(
    tmp_path: Path, pacs: real_peers.Orthanc
):
    port = real_peers.free_port()
    tables = f"[web]\nenabled = true\nport = {port}\n[retention]\ndays = 30.0\n"
    node = WholeNode(tmp_path, pacs.dicom_port, extra=tables)
    text = node.config.read_text()
    factory = '"bright_pipeline:create"\n'
    text = text.replace(factory, f"{factory}similar_findings = true\nsimilar_in_pdf = true\n")
    objects = '[destinations.pacs]\nobjects = ["seg", "sr", "pdf"]'
    node.config.write_text(text.replace("[destinations.pacs]", objects))
    node.folder.mkdir(exist_ok=True)
    write_user(node.folder / "web-users", make_user("rita", "read", PASSWORD))
    node.start()
    try:
        studies = []
        for number in (1, 2):
            images = ct_series(volume=with_lesion())
            for image in images:
                image.PatientID = f"P{number}"
            studies.append(str(images[0].StudyInstanceUID))
            folder = tmp_path / f"study {number}"
            folder.mkdir()
            write(images, folder)
            store(node, folder)
            node.finished(studies[-1], jobs=1)
        first, second = studies
        assert "No similar earlier finding." in page_of(node, port, first)
        page = page_of(node, port, second)
        listed = re.search(r'<details class="similar">.*?</details>', page, re.DOTALL)
        assert listed is not None, page
        assert f'href="/study/{first}"' in listed[0]
        assert "Every bright lesion is like any other." in page
        listed_in = [listed_in_pdf(node, pacs, study, tmp_path) for study in studies]
        assert listed_in == [False, True]
        counted = node.ainode("similar")
        assert counted.stdout.strip() == "Embeddings of bright (bright-1): 2"

        config = parse(node.config.read_text())
        engine = open_ledger(ledger_url(config.storage.ledger_url, node.folder))
        retention = Retention(config, engine, Spool(node.folder))
        with engine.begin() as connection:  # the second study is a month younger
            later = {"by": 60 * DAY, "study": second}
            connection.execute(
                sa.text("UPDATE series SET last_at = last_at + :by WHERE study_instance_uid = :study"), later
            )
        assert retention.step(now() + 31 * DAY) == [first]
        engine.dispose()
        assert "No similar earlier finding." in page_of(node, port, second)
        assert node.ainode("similar", "--rebuild").stdout.splitlines()[-1] == "Embeddings of bright (bright-1): 1"
    finally:
        node.stop()
