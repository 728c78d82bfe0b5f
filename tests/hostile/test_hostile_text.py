"""What peers call themselves and their objects forges no line, steers no terminal and makes no file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from dicom_files import ct_series
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from raw_peer import RAW_CT, answer, connection
from receivers import associate, associate_rq, encode, send, send_dataset
from supervised import Supervised

from node.__main__ import main
from node.ledger.tables import refusal, rejection
from node.log import study_lines

CT = [(CTImageStorage, ExplicitVRLittleEndian)]
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: |    ")
TITLE = b"A\n\x1b[2J\x9b\x85\rCRIT: x"
"""16 bytes of an AE title: PS3.8 leaves the check of its repertoire to whoever reads it."""
OBJECTS = 300


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path)
    running.start('max_associations = 8\ncallers = [{ title = "PEER" }]')
    yield running
    running.kill()


def test_a_hostile_peer_writes_neither_lines_nor_files_nor_the_logs_of_other_studies(node: Supervised) -> None:
    honest = ct_series(1)[0]
    association = associate(node.node(), CT)
    assert send_dataset(association, honest).Status == 0x0000
    for _ in range(20):
        with connection(node) as opened:
            opened.sendall(associate_rq(RAW_CT, calling=TITLE))
            answer(opened)
    for number in range(OBJECTS):  # a claim about a study for each, and their SOP Instance UIDs are not the requests'
        claimed = ct_series(1)[0]
        claimed.StudyInstanceUID = generate_uid()
        claimed.SeriesInstanceUID = honest.SeriesInstanceUID if number % 2 else generate_uid()
        claimed.SOPInstanceUID = generate_uid()
        claimed.PatientID = "x\n\x1b[2J" * 10
        assert send(association, CTImageStorage, generate_uid(), encode(claimed)).Status != 0x0000
    association.release()
    assert node.stop() == 0

    lines = node.log().splitlines()
    assert [line for line in lines if not LINE.match(line) or not line.isprintable() or len(line) > 6000] == []
    assert "\\n\\x1b[2J" in node.log(), "the title is in the log, escaped"
    logs = node.node().spool.logs
    assert {path.name for path in logs.iterdir()} <= {f"{honest.StudyInstanceUID}.jsonl", "warnings.log"}
    assert all(line.isprintable() for line in (logs / "warnings.log").read_text().splitlines())
    assert not any("refused" in line["message"] for line in study_lines(logs, honest.StudyInstanceUID, 10**6))
    assert len([line for line in lines if "refused with status" in line]) <= 102, "further series share a line"
    for table in (refusal, rejection):
        for row in node.node().rows(table):
            assert all(value.isprintable() for value in row if isinstance(value, str)), row


def test_verbs_show_a_hostile_peer_escaped(node: Supervised) -> None:
    with connection(node) as opened:
        opened.sendall(associate_rq(RAW_CT, calling=TITLE))
        answer(opened)
    assert node.stop() == 0
    for verb in ("status", "account"):
        shown = CliRunner().invoke(main, [verb, "--config", str(node.file)]).output
        assert all(line.isprintable() for line in shown.splitlines()), verb
