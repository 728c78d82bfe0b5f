"""Decision records: one for each state of a finished study, in a chain that shows what was done to it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from dicom_files import ct_series
from receivers import until

from node.__main__ import main
from node.config import Config, parse
from node.ledger.associations import OpenAssociation
from node.ledger.decision_records import records
from node.ledger.engine import begin_immediate, open_ledger
from node.ledger.events import EventKind, record_study_event
from node.ledger.instances import Receipt, record_instances
from node.ledger.patient_hash import destroy_patient_key
from node.ledger.tables import (
    decision,
    decision_record,
    delivery,
    delivery_instance,
    instance,
    job,
    job_fact,
    result,
    series,
    verdict,
)
from node.operate.account.report import account
from node.operate.account.rows import read
from node.operate.account.watch import ACCOUNT_SECONDS, AccountWatch
from node.operate.purge import Retention
from node.operate.records import chain
from node.operate.records.recorder import Recorder
from node.spool import Spool

LONG_AGO = 1_000_000.0
"""When everything in these studies happened."""
SENDER = OpenAssociation(
    id="a", receiver="r", calling_ae="CT1", called_ae="AINODE", peer_address="10.0.0.7", opened_at=LONG_AGO
)


def config_of(folder: Path, extra: str = "") -> Config:
    return parse(f"[storage]\nfolder = '{folder}'\n{extra}")


def finished_study(engine: sa.Engine, spool: Spool, patient: str = "PATIENT-4711") -> str:
    """A study of three images that was analysed and delivered, with a verdict, as the ledger keeps it."""
    datasets = ct_series(3)
    receipts = []
    study, of = str(datasets[0].StudyInstanceUID), str(datasets[0].SeriesInstanceUID)
    for dataset in datasets:
        dataset.PatientID, sop = patient, str(dataset.SOPInstanceUID)
        path = spool.folder / f"{sop}.part"
        dataset.save_as(path, enforce_file_format=True)
        stored = spool.keep(study, of, sop, [path.read_bytes()])
        path.unlink()
        receipts.append(
            Receipt(
                sop_instance_uid=sop, sop_class_uid=str(dataset.SOPClassUID), transfer_syntax_uid="1.2.840.10008.1.2.1",
                study_instance_uid=study, series_instance_uid=of, modality="CT", path=stored.path, digest=stored.digest,
                size=stored.size, conflict=False, association=SENDER, received_at=LONG_AGO,
            )
        )  # fmt: skip
    key = {"study_instance_uid": study, "series_instance_uid": of}
    with begin_immediate(engine) as connection:
        record_instances(connection, receipts)
        connection.execute(
            sa.update(series).where(series.c.study_instance_uid == study).values(
                state="COMPLETE", generation=1, completed_at=LONG_AGO + 30, completed_by="quiet period",
                last_at=LONG_AGO,
            )
        )  # fmt: skip
        trace = [{"rule": "chest", "matched": True, "chosen": True, "pipelines": ["nodule"], "conditions": []}]
        connection.execute(
            sa.insert(decision).values(
                **key, generation=1, outcome="routed", reason={"code": "matched"}, trace=trace, decided_at=LONG_AGO + 31
            )
        )
        job_id = f"job-{study[-12:]}"
        connection.execute(
            sa.insert(job).values(
                **key, id=job_id, generation=1, pipeline="nodule", rule="chest", destinations=["pacs"], priority=2,
                state="COMPLETED", stage="deliver", run=0, attempt=1, outcome="findings", created_at=LONG_AGO + 31,
                updated_at=LONG_AGO + 60,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(job_fact).values(
                job_id=job_id, pipeline="nodule", version="1.4.0", weights="ab" * 32, configuration="cd" * 32,
                scanner="Siemens Force", at=LONG_AGO + 50, outcome="findings", slices=3, findings=1, scores=[0.9],
                device="cuda:0", run_seconds=3.2,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(delivery).values(
                job_id=job_id, destination="pacs", state="CONFIRMED", attempt=1, created_at=LONG_AGO + 55,
                updated_at=LONG_AGO + 60, every_kind=True,
            )
        )  # fmt: skip
        for number, kind in enumerate(("seg", "sr", "pdf", "root")):
            sop = f"2.25.{number}{study[-30:].replace('.', '')}"
            connection.execute(
                sa.insert(result).values(
                    sop_instance_uid=sop, job_id=job_id, sop_class_uid="1.2", transfer_syntax_uid="1.2",
                    series_instance_uid="9", description="", path=f"results/{job_id}/{kind}", digest="ef" * 32, size=1,
                    created_at=LONG_AGO + 55, kind=kind,
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(delivery_instance).values(
                    job_id=job_id, destination="pacs", sop_instance_uid=sop, status=0, sent_at=LONG_AGO + 58,
                    committed_at=LONG_AGO + 60,
                )
            )  # fmt: skip
        happened(connection, study)
    return study


def happened(connection: sa.Connection, study: str, at: float = LONG_AGO + 60) -> None:
    record_study_event(connection, EventKind.JOB_COMPLETED, at=at, study_instance_uid=study, series_instance_uid=None)


def judged(engine: sa.Engine, study: str) -> None:
    with begin_immediate(engine) as connection:
        connection.execute(
            sa.insert(verdict).values(
                source="1.2.3", job_id=f"job-{study[-12:]}", lesion="2.25.77", kind="segmentation", verdict="accepted",
                reader="aabbccdd", given_at=time.time(),
            )
        )  # fmt: skip
        happened(connection, study, time.time())


def step(recorder: Recorder, at: float) -> int:
    try:
        until(recorder._leads.is_ours)  # PostgreSQL ends the session of the one before a moment later
        return recorder.step(at)
    finally:
        recorder.close()


def lines(engine: sa.Engine) -> list[dict[str, object]]:
    with engine.connect() as connection:
        return [json.loads(row.record) for row in records(connection)]


def faults(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return chain.verify(chain.of_rows(records(connection))).faults


@postgres.BOTH
def test_a_finished_study_is_recorded_once_and_again_when_a_reader_has_judged_it(engine: sa.Engine, tmp_path: Path):
    spool = Spool(tmp_path)
    study = finished_study(engine, spool)
    recorder = Recorder(config_of(tmp_path), engine, spool)
    at = time.time()
    assert step(recorder, at) == 1
    assert step(recorder, at + 600) == 0
    judged(engine, study)
    assert step(recorder, time.time()) == 0, "the reader may still be at it"
    assert step(recorder, time.time() + 61) == 1
    first, second = lines(engine)
    assert "verdicts" not in first["jobs"][0]
    assert second["jobs"][0]["verdicts"][0]["verdict"] == "accepted"
    assert second["series"][0]["senders"] == [["CT1", "10.0.0.7"]]
    assert second["series"][0]["decisions"][0]["rules"] == ["chest"]
    analysis = second["jobs"][0]["analysis"]
    assert (analysis["weights"], analysis["version"], analysis["device"]) == ("ab" * 32, "1.4.0", "cuda:0")
    assert {item["kind"] for item in second["jobs"][0]["objects"]} == {"seg", "sr", "pdf", "root"}
    assert second["jobs"][0]["deliveries"][0]["confirmed"] == 4
    text = json.dumps([first, second])
    assert "PATIENT-4711" not in text, "names a patient"
    assert len(json.dumps(second)) < 3072, len(json.dumps(second))
    assert faults(engine) == []


@postgres.BOTH
def test_patients_are_told_apart_until_the_key_is_destroyed(engine: sa.Engine, tmp_path: Path):
    spool = Spool(tmp_path)
    recorder = Recorder(config_of(tmp_path), engine, spool)
    for patient in ("A", "A", "B"):
        recorder.record(finished_study(engine, spool, patient))
    with begin_immediate(engine) as connection:
        assert destroy_patient_key(connection)
        assert not destroy_patient_key(connection)
    recorder.record(finished_study(engine, spool, "A"))
    first, same, other, later = (line["patient"] for line in lines(engine))
    assert first == same
    assert len({first, other, later}) == 3


@postgres.BOTH
def test_a_record_that_is_changed_removed_or_moved_is_found(engine: sa.Engine, tmp_path: Path):
    spool = Spool(tmp_path)
    recorder = Recorder(config_of(tmp_path), engine, spool)
    for _ in range(4):
        recorder.record(finished_study(engine, spool))
    assert faults(engine) == []
    number = decision_record.c.number
    with engine.begin() as connection:
        rows = list(connection.execute(sa.select(decision_record).order_by(number)).mappings())

    def with_rows(changed: list[dict[str, object]]) -> list[str]:
        with engine.begin() as connection:
            connection.execute(sa.delete(decision_record))
            connection.execute(sa.insert(decision_record), changed)
        return faults(engine)

    text = str(rows[1]["record"]).replace("findings", "no findings")
    assert "record 2 was changed: its signature does not fit" in with_rows(
        [rows[0], {**rows[1], "record": text}, *rows[2:]]
    )
    assert with_rows([rows[0], *rows[2:]]) == ["after record 1 comes record 3"]
    assert with_rows(rows[1:]) == ["records before number 2 are missing: they did not expire"]
    swapped = [{**rows[2], "number": 2}, {**rows[1], "number": 3}]
    assert len(with_rows([rows[0], *swapped, rows[3]])) >= 2
    assert with_rows([{**row, "study_instance_uid": "1.2"} if row is rows[0] else row for row in rows])
    assert with_rows(rows) == []


@postgres.BOTH
def test_old_records_expire_and_the_chain_says_so(engine: sa.Engine, tmp_path: Path):
    spool = Spool(tmp_path)
    recorder = Recorder(config_of(tmp_path, "[records]\nyears = 1"), engine, spool)
    for _ in range(3):
        recorder.record(finished_study(engine, spool))
    with engine.begin() as connection:
        connection.execute(sa.update(decision_record).where(decision_record.c.number <= 2).values(recorded_at=5.0))
    step(recorder, time.time())
    third, expiry = lines(engine)
    assert (third["number"], expiry["kind"], expiry["through"]) == (3, "expiry", 2)
    assert faults(engine) == []
    with engine.begin() as connection:
        connection.execute(sa.delete(decision_record).where(decision_record.c.number == 3))
    assert faults(engine)


@postgres.BOTH
def test_retention_purges_no_study_without_its_record(engine: sa.Engine, tmp_path: Path):
    spool = Spool(tmp_path)
    study = finished_study(engine, spool)
    key = tmp_path / "records-key"
    key.mkdir()
    config = config_of(tmp_path)
    assert Retention(config, engine, spool).step(time.time()) == []
    key.rmdir()
    assert Retention(config, engine, spool).step(time.time()) == [study]
    assert [line["study"] for line in lines(engine)] == [study]
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(instance)) == 0


@postgres.BOTH
def test_the_account_names_finished_studies_without_a_record(engine: sa.Engine, tmp_path: Path):
    spool = Spool(tmp_path)
    study = finished_study(engine, spool)

    def missing() -> list[str]:
        differences = account(read(engine, spool, with_records=True), lambda *_: True).differences
        return [difference for difference in differences if "decision record" in difference]

    assert len(missing()) == 1
    assert study in missing()[0]
    step(Recorder(config_of(tmp_path), engine, spool), time.time())
    assert missing() == []


def test_a_node_that_was_down_may_write_its_records_before_their_absence_is_an_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spool = Spool(tmp_path)
    engine = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    finished_study(engine, spool)
    watch, stop = AccountWatch(config_of(tmp_path), engine, spool, lambda: True), threading.Event()
    watch.step(stop)
    assert "decision record" not in str(watch.alerts)
    began = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: began + ACCOUNT_SECONDS)
    watch.step(stop)
    assert "has no decision record" in watch.alerts["account"]


def test_an_export_is_verified_without_the_ledger(tmp_path: Path):
    spool = Spool(tmp_path / "node")
    config = tmp_path / "config.toml"
    config.write_text(f"[storage]\nfolder = '{spool.folder}'\n[pipelines.nodule]\n")
    ledger = open_ledger(f"sqlite:///{spool.folder / 'ledger.sqlite'}")
    recorder = Recorder(parse(config.read_text()), ledger, spool)
    for _ in range(3):
        recorder.record(finished_study(ledger, spool))
    runner, at = CliRunner(), ["--config", str(config)]
    exported = runner.invoke(main, ["records", "export", *at])
    assert exported.exit_code == 0, exported.output
    head, *rest = exported.output.splitlines()
    (nodule,) = json.loads(head)["inventory"]
    assert nodule["versions"][0] | {"first_at": 0, "last_at": 0} == {
        "version": "1.4.0", "weights": "ab" * 32, "analyses": 3, "first_at": 0, "last_at": 0,
    }  # fmt: skip
    assert len(rest) == 3
    file = tmp_path / "records.jsonl"
    file.write_text(exported.output)
    assert runner.invoke(main, ["records", "verify", *at, str(file)]).exit_code == 0
    assert runner.invoke(main, ["records", "verify", *at, "--key", "00" * 32, str(file)]).exit_code == 7
    file.write_text(exported.output.replace("chest", "pelvis", 1))
    assert runner.invoke(main, ["records", "verify", *at, str(file)]).exit_code == 7
    assert runner.invoke(main, ["records", "verify", *at]).exit_code == 0
    tomorrow = datetime.fromtimestamp(time.time() + 2 * 86400, UTC).strftime("%Y-%m-%d")
    later = runner.invoke(main, ["records", "export", *at, "--since", tomorrow])
    assert len(later.output.splitlines()) == 1
    destroyed = runner.invoke(main, ["records", "anonymize", *at, "--reason", "moved", "--yes"])
    assert destroyed.exit_code == 0, destroyed.output
    assert runner.invoke(main, ["records", "anonymize", *at, "--reason", "moved", "--yes"]).exit_code != 0
    ledger.dispose()


def test_a_killed_recorder_leaves_each_study_recorded_exactly_once(engine: sa.Engine, tmp_path: Path):
    spool = Spool(tmp_path)
    studies = {finished_study(engine, spool) for _ in range(30)}
    config = tmp_path / "config.toml"
    config.write_text(f"[storage]\nfolder = '{tmp_path}'\n")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom node.config import load\n"
        "from node.service import open_storage\nfrom node.operate.records.recorder import Recorder\n"
        f"config = load(Path({str(config)!r}))\n"
        "recorder = Recorder(config, *open_storage(config))\n"
        "while True:\n    recorder.step(time.time())\n"
    )
    drawn = random.Random(22)
    for _ in range(3):
        before = len(lines(engine))
        process = subprocess.Popen([sys.executable, "-c", code])
        try:
            deadline = time.monotonic() + 60
            while len(lines(engine)) == before < len(studies):
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(drawn.uniform(0.0, 0.05))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    step(Recorder(config_of(tmp_path), engine, spool), time.time())
    assert sorted(str(line["study"]) for line in lines(engine)) == sorted(studies)
    assert faults(engine) == []
