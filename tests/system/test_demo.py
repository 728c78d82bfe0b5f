"""The demonstration: it deletes nothing of others, tells the ledger's truth, and works end to end."""

from __future__ import annotations

import os
from pathlib import Path

import dicom_files
import numpy as np
import pytest
import sqlalchemy as sa

from node.config import parse
from node.demo import run
from node.demo.fleet_demo import run_fleet_demo
from node.demo.hospital_network import check_rights
from node.demo.progress import HEADINGS, ProgressRow, progress, sent_series
from node.demo.scanner import find
from node.errors import PlatformError
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.tables import decision, delivery, job, series
from node.reasons import ReasonCode, reason


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return open_ledger(ledger_url("", tmp_path))


def rows_of(engine: sa.Engine, folder: Path) -> tuple[ProgressRow, ...]:
    with engine.connect() as connection:
        return progress(connection, sent_series(find(folder)))


def insert(engine: sa.Engine, table: sa.Table, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(table.insert().values(**values))


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path: Path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    with pytest.raises(PlatformError, match="not empty"):
        run.run_demo(None, tmp_path)
    assert precious.read_text() == "mine"


def test_each_step_of_a_series_is_told_from_the_ledger(engine: sa.Engine, tmp_path: Path):
    images = dicom_files.mr_series(3)
    dicom_files.write(images, tmp_path / "scan")
    uids = {"study_instance_uid": images[0].StudyInstanceUID, "series_instance_uid": images[0].SeriesInstanceUID}
    (row,) = rows_of(engine, tmp_path / "scan")
    assert (row.images, row.over) == ("0/3", False)
    state = {"modality": "MR", "instances": 3, "first_at": 100.0, "last_at": 110.0, "state": "COMPLETE"}
    insert(engine, series, **uids, **state, generation=1)
    (row,) = rows_of(engine, tmp_path / "scan")
    assert (row.images, row.state, row.over) == ("3/3", "complete", False)
    verdict = {"generation": 1, "reason": reason(ReasonCode.MATCHES, rules=["brain"]), "trace": [], "decided_at": 111.0}
    insert(engine, decision, **uids, **verdict, outcome="routed")
    work = {"rule": "r", "destinations": ["pacs"], "priority": 2, "run": 0, "attempt": 1, "created_at": 111.0}
    for name, doing, outcome in (
        ("a", "IN PROGRESS", None),
        ("b", "COMPLETED", "findings"),
        ("c", "COMPLETED", "failed"),
    ):
        insert(
            engine,
            job,
            id=name,
            **uids,
            generation=1,
            pipeline=name,
            **work,
            state=doing,
            stage="infer",
            outcome=outcome,
            reason=reason(ReasonCode.STATED, text="why"),
            updated_at=130.0,
        )
    insert(
        engine, delivery, job_id="b", destination="pacs", state="CONFIRMED", attempt=1, created_at=1.0, updated_at=2.0
    )
    working, done, failed = rows_of(engine, tmp_path / "scan")
    assert (working.stage, working.over, working.seconds) == ("infer in progress", False, None)
    assert (done.outcome, done.delivered, done.seconds, done.over, done.good) == (
        "findings",
        "CONFIRMED",
        20.0,
        True,
        True,
    )
    assert (failed.reason, failed.good) == ("why", False)
    assert len(done.cells) == len(HEADINGS)


def test_a_series_that_no_rule_wants_does_not_keep_the_demo_waiting(engine: sa.Engine, tmp_path: Path):
    images = dicom_files.mr_series(3)
    dicom_files.write(images, tmp_path / "scan")
    uids = {"study_instance_uid": images[0].StudyInstanceUID, "series_instance_uid": images[0].SeriesInstanceUID}
    state = {"modality": "MR", "instances": 3, "first_at": 1.0, "last_at": 1.0, "state": "COMPLETE", "generation": 1}
    insert(engine, series, **uids, **state)
    verdict = {"generation": 1, "reason": reason(ReasonCode.NO_RULE), "trace": [], "decided_at": 2.0}
    insert(engine, decision, **uids, **verdict, outcome="ignored")
    (row,) = rows_of(engine, tmp_path / "scan")
    assert (row.state, row.reason, row.over, row.good) == ("ignored", "no rule matches", True, True)


def test_real_studies_go_through_node_and_pacs_and_the_archive_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    noise = np.random.default_rng(1).integers(0, 60, (12, 64, 64))
    dicom_files.write(dicom_files.mr_series(volume=noise), tmp_path / "scan")
    dicom_files.write([dicom_files.secondary_capture()], tmp_path / "scan")
    assert run.run_demo(tmp_path / "scan", tmp_path / "demo") == 0
    shown = capsys.readouterr().out
    assert "AX FLAIR" in shown
    assert "secondary captures" in shown, "the screenshot is ignored, and said so"
    assert "AI FLAIR abnormality report" in shown, "whatever the outcome, the PACS has got a report"
    parse((tmp_path / "demo" / "config.toml").read_text())


@pytest.mark.skipif("AINODE_FLEET" not in os.environ, reason="takes minutes; AINODE_FLEET is not set")
def test_studies_go_through_two_machines_that_hold_two_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    try:
        check_rights()
    except PlatformError as error:
        pytest.skip(str(error))
    noise = np.random.default_rng(1).integers(0, 60, (12, 64, 64))
    dicom_files.write(dicom_files.mr_series(volume=noise), tmp_path / "scan")
    assert run_fleet_demo(tmp_path / "scan", tmp_path / "demo", 2) == 0
    shown = capsys.readouterr().out
    assert "12 images to AI1" in shown
    assert "AI FLAIR abnormality report" in shown
    assert "on 2 machines; 2 wanted" in shown
    assert "Every copy is as it was recorded." in shown


def test_machines_without_root_are_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PlatformError, match="need root; run it with sudo"):
        run_fleet_demo(None, tmp_path / "demo", 3)
    assert not (tmp_path / "demo").exists()
