"""Orders that only a Modality Worklist has: dcmtk's and Orthanc's, asked by a node whose router is moved by hand."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hl7_orders import order
from postgres import cluster
from pydicom.uid import generate_uid
from real_peers import free_port, orthanc
from worklist_scene import WorklistScene
from worklists import TITLE, Wlmscpfs, entry, orthanc_settings, wlmscpfs, write

from node.check.network import worklist as check_worklist
from node.deliver.association import Timeouts
from node.ledger.audit_events import Question
from node.ledger.engine import begin_immediate
from node.ledger.orders import latest_orders
from node.ledger.states import WorklistState
from node.ledger.tables import notice
from node.ledger.worklist_queries import answer_query, due_queries
from node.operate.alerts import ledger_alerts
from node.operate.metrics import exposition


@pytest.fixture
def ris(tmp_path: Path) -> Iterator[Wlmscpfs]:
    with wlmscpfs(tmp_path / "worklist", entry(), entry(PatientID="PAT9", AccessionNumber="A9")) as server:
        yield server


@pytest.fixture
def scene(tmp_path: Path, ris: Wlmscpfs) -> Iterator[WorklistScene]:
    worklist_scene = WorklistScene(tmp_path, ris.port)
    yield worklist_scene
    worklist_scene.close()


def test_a_rule_sees_the_order_that_only_the_worklist_has(scene: WorklistScene):
    series = scene.take()
    scene.wait(4)  # the headers are read, and the router asks
    assert scene.ask() == 1
    scene.wait(7)
    assert scene.decided()[series][0] == "routed"
    assert [(job.pipeline, job.priority) for job in scene.jobs()] == [("scripted", 1)]
    text = scene.text()
    assert "order CTCHEST 'CT of the chest': STAT, active, from the worklist" in text
    assert "worklist: the order is known" in text
    assert "PAT1" not in text
    with scene.node.engine.connect() as connection:
        (order,) = latest_orders(connection, 10)
    assert (order.keys.placer, order.keys.filler, order.values.priority) == ("P1", "F1", "STAT")
    assert order.values.reason == "pulmonary nodule, größer?"


def test_a_complete_series_waits_for_the_answer_and_no_longer_than_it_may(scene: WorklistScene):
    series = scene.take()
    scene.wait(4)
    scene.wait(10)
    assert series not in scene.decided()
    assert "the worklist has not answered whether there is an order" in scene.text()
    scene.wait(9)
    assert series not in scene.decided()
    scene.wait(2)  # 25 s after the last image, 21 s after the question
    assert scene.decided()[series][0] == "ignored"


def test_the_answer_that_comes_after_the_decision_has_the_series_decided_again(tmp_path: Path, ris: Wlmscpfs):
    ris.stop()
    scene = WorklistScene(tmp_path, ris.port)
    series = scene.take()
    scene.wait(4)
    assert scene.ask() == 0
    scene.wait(22)
    assert scene.decided()[series][0] == "ignored"
    text = scene.text()
    assert f"no order: the worklist did not answer (worklist ({TITLE} at 127.0.0.1:{ris.port})" in text
    assert "the node asks again" in text
    ris.start()
    scene.at += 3
    assert scene.ask() == 1
    scene.wait(4)
    scene.wait(11)
    assert scene.decided()[series][0] == "routed"
    scene.close()


def test_a_worklist_that_is_silent_is_asked_again_until_the_node_gives_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    scene = WorklistScene(tmp_path, free_port())
    scene.take()
    scene.wait(4)
    with caplog.at_level(logging.INFO):
        for _ in range(30):
            scene.ask()
            scene.at += 30
    assert "PAT1" not in caplog.text
    with scene.node.engine.connect() as connection:
        assert (
            "have no order: the worklist did not answer"
            in ledger_alerts(scene.config, connection, scene.at)["worklist"]
        )
    assert b'ainode_worklist_queries{state="pending"} 1.0' in exposition(
        scene.config, scene.node.engine, scene.node.spool
    )
    scene.at += 24 * 3600
    scene.ask()
    assert scene.states() == {"unanswered": 1}
    assert "no order: the worklist did not answer" in scene.text()
    scene.close()


@pytest.mark.parametrize("changed", [{"PatientID": "PAT2"}, {"IssuerOfPatientID": "OTHER"}, {"PatientID": ""}])
def test_an_entry_of_another_patient_is_not_taken(scene: WorklistScene, ris: Wlmscpfs, changed: dict[str, str]):
    write(ris.folder, entry(**changed))
    series = scene.take()
    scene.wait(4)
    scene.ask()
    scene.wait(7)
    assert scene.decided()[series][0] == "ignored"
    assert scene.states() == {"not taken": 1}
    assert "no order: 1 entry of the worklist has its numbers and another patient" in scene.text()


def test_by_the_study_an_entry_of_another_accession_number_is_not_taken(scene: WorklistScene, ris: Wlmscpfs):
    write(ris.folder, entry(StudyInstanceUID=scene.study, AccessionNumber="A2"))
    scene.take()
    scene.wait(4)
    scene.ask()
    assert "1 entry of the worklist has another accession number" in scene.text()


def test_images_without_accession_number_find_their_order_by_the_study(scene: WorklistScene, ris: Wlmscpfs):
    write(ris.folder, entry(StudyInstanceUID=scene.study), entry(PatientID="PAT9"))
    series = scene.take(AccessionNumber="", StudyDate="20200101")
    scene.wait(4)
    assert scene.ask() == 1
    scene.wait(7)
    assert scene.decided()[series][0] == "routed"


def test_images_without_accession_number_find_their_order_by_patient_and_day(scene: WorklistScene, ris: Wlmscpfs):
    others = entry(PatientID="PAT9"), entry(ScheduledProcedureStepStartDate="20260103"), entry(Modality="MR")
    write(ris.folder, entry(), *others)
    series = scene.take(AccessionNumber="", StudyDate="20260102")
    scene.wait(4)
    assert scene.ask() == 1
    scene.wait(7)
    assert scene.decided()[series][0] == "routed"


def test_of_two_procedures_of_the_patient_on_the_day_none_is_taken(scene: WorklistScene, ris: Wlmscpfs):
    second = {"AccessionNumber": "A2", "RequestedProcedureID": "RP2", "PlacerOrderNumberImagingServiceRequest": "P2"}
    write(ris.folder, entry(), entry(**second))
    series = scene.take(AccessionNumber="", StudyDate="20260102")
    scene.wait(4)
    scene.ask()
    scene.wait(7)
    assert scene.decided()[series][0] == "ignored"
    assert "the worklist has 2 procedures of the patient on that day, and no number names one" in scene.text()


def test_a_wildcard_in_the_images_is_never_sent(scene: WorklistScene):
    scene.take(AccessionNumber="*", PatientID="P*")
    scene.wait(4)
    scene.ask()
    with scene.node.engine.connect() as connection:
        questions = [Question.from_json(row.detail) for row in connection.execute(notice.select())]
        assert latest_orders(connection, 10) == []
    assert len(questions) == 1  # by the study
    assert questions[0].about == "1.2.840.10008.5.1.4.31"


def test_a_worklist_that_ignores_the_key_gives_nothing(scene: WorklistScene, ris: Wlmscpfs):
    """dcmtk's worklist does not search by Study Instance UID: it answers with all entries."""
    write(ris.folder, *(entry(PatientID=f"PAT{number}") for number in range(10, 20)))
    scene.take(AccessionNumber="", StudyDate="")
    scene.wait(4)
    assert scene.ask() == 1
    assert "no order: the worklist answered with 10 entries of other studies" in scene.text()


def test_a_worklist_with_more_entries_than_are_read_gives_nothing(scene: WorklistScene, ris: Wlmscpfs):
    of_study = [entry(StudyInstanceUID=scene.study, RequestedProcedureID=f"RP{number}") for number in range(250)]
    write(ris.folder, *of_study)
    scene.take(AccessionNumber="", StudyDate="")
    scene.wait(4)
    assert scene.ask() == 1
    assert "no order: the worklist answered with" in scene.text()
    with scene.node.engine.connect() as connection:
        assert latest_orders(connection, 10) == []


def test_an_order_of_a_message_replaces_that_of_the_worklist(scene: WorklistScene):
    scene.take()
    scene.wait(4)
    assert scene.ask() == 1
    scene.hear(order(procedure="CTOTHER^Another^L", placer="P7", filler=""))
    with scene.node.engine.connect() as connection:
        (only,) = latest_orders(connection, 10)
    assert (only.values.procedure_code, only.of_worklist) == ("CTOTHER", False)


def test_nothing_is_asked_when_a_message_brought_the_order(scene: WorklistScene):
    scene.hear(order())
    scene.take()
    scene.wait(4)
    assert scene.ask() == 0
    assert scene.states() == {}


def test_an_answer_that_was_recorded_by_another_process_adds_no_second_order(scene: WorklistScene):
    scene.take()
    scene.wait(4)
    with scene.node.engine.connect() as connection:
        (due,) = due_queries(connection, scene.at, 10)
    assert scene.ask() == 1
    with begin_immediate(scene.node.engine) as connection:
        assert not answer_query(connection, due, WorklistState.ABSENT, scene.at)
        assert len(latest_orders(connection, 10)) == 1
    assert scene.states() == {"found": 1}


def test_a_ledger_in_postgresql_asks_answers_and_routes_alike(tmp_path: Path, ris: Wlmscpfs):
    with cluster() as url:
        scene = WorklistScene(tmp_path, ris.port, url=url)
        scene.take(AccessionNumber="A9")  # of another patient
        scene.wait(4)
        assert scene.ask() == 1
        assert scene.states() == {"not taken": 1}
        ris.stop()
        scene.study = str(generate_uid())
        series = scene.take()
        scene.wait(4)
        assert scene.ask() == 0
        ris.start()
        scene.at += 3
        assert scene.ask() == 1
        scene.wait(7)
        assert scene.decided()[series][0] == "routed"
        assert scene.states() == {"found": 1, "not taken": 1}
        scene.close()


def test_orthanc_answers_with_its_character_set(tmp_path: Path):
    write(tmp_path / "entries", entry(), entry(PatientID="PAT9", AccessionNumber="A9"))
    with orthanc(tmp_path, **orthanc_settings(tmp_path / "entries")) as peer:
        scene = WorklistScene(tmp_path / "node", peer.dicom_port, peer.aet)
        series = scene.take()
        scene.wait(4)
        assert scene.ask() == 1
        scene.wait(7)
        assert scene.decided()[series][0] == "routed"
        check = check_worklist(scene.config)
        assert check.good, check
        scene.close()


def test_check_names_the_worklist_that_does_not_answer(tmp_path: Path):
    port = free_port()
    scene = WorklistScene(tmp_path, port)
    check = check_worklist(scene.config)
    assert not check.good
    assert "connection refused" in check.found
    scene.close()


def test_a_worklist_that_hangs_keeps_no_other_studies_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It takes the connection and says nothing: one attempt ends, and all queries are put off."""
    monkeypatch.setattr("node.orders.worklist.TIMEOUTS", Timeouts(connect_seconds=1.0, answer_seconds=1.0))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        scene = WorklistScene(tmp_path, silent.getsockname()[1])
        scene.take()
        scene.wait(4)
        assert scene.ask() == 0
        assert "did not answer the association request" in scene.text()
        assert scene.ask() == 0, "not due yet"
        scene.close()
