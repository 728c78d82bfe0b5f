"""A whole node whose ledger is behind PgBouncer."""

from __future__ import annotations

import json
from pathlib import Path

import postgres
import pytest
import real_peers
from dicom_files import ct_series, write
from lesion_studies import store, with_lesion
from pgbouncer import pgbouncer
from receivers import until
from whole_node import WholeNode

pytestmark = pytest.mark.rotating


def pooled(folder: Path, port: int, url: str) -> WholeNode:
    node = WholeNode(folder, port)
    text = node.config.read_text().replace("[storage]", f'[storage]\nledger_url = "{url}"')
    node.config.write_text(text)
    return node


def outcome(node: WholeNode, study: str) -> list[tuple[str, str]]:
    shown = node.ainode("explain", study, "--json")
    if shown.returncode:
        return []
    explanation = json.loads(shown.stdout)
    return [(job["state"], job["outcome"]) for series in explanation["series"] for job in series["jobs"]]


def test_a_node_works_behind_a_pooler_of_sessions_that_is_killed_once(tmp_path: Path) -> None:
    with (
        real_peers.orthanc(tmp_path) as pacs,
        postgres.cluster() as url,
        pgbouncer(url, "session") as pooler,
    ):
        node = pooled(tmp_path / "node", pacs.dicom_port, pooler.url)
        try:
            node.start()
            for number in range(2):
                images = ct_series(volume=with_lesion())
                write(images, tmp_path / str(number))
                store(node, tmp_path / str(number))
                if not number:
                    pooler.kill()
                    pooler.start()
                study = str(images[0].StudyInstanceUID)
                until(lambda study=study: outcome(node, study) == [("COMPLETED", "findings")], 120.0)
            account = node.ainode("account")
        finally:
            node.kill()
    assert account.returncode == 0, account.stdout
