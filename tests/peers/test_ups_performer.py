"""The node as performer of another system's workitems: claim, progress, end, and what breaks in between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from performing_scene import PerformingScene
from postgres import cluster
from pydicom import Dataset
from real_peers import free_port
from receivers import until
from ups_manager import Manager, ups_manager
from workitem_scene import wanted

from node.ledger.engine import begin_immediate
from node.ledger.states import ClaimState, JobState
from node.ledger.tables import claimed_workitem
from node.ledger.workitems import ask_for_cancellation
from node.reasons import ReasonCode, reason

UID = "1.2.826.0.1.3680043.8.498.3"


@pytest.fixture
def manager() -> Iterator[Manager]:
    with ups_manager() as running:
        yield running


@pytest.fixture
def scene(tmp_path: Path, manager: Manager) -> PerformingScene:
    return PerformingScene(tmp_path, manager.url, 'query = { WorklistLabel = "Night" }')


def test_a_workitem_is_claimed_performed_and_completed_with_its_outputs(
    scene: PerformingScene, manager: Manager
) -> None:
    series = scene.take()
    manager.add(UID, wanted(scene.study, series, PatientID="PAT1"))
    scene.wait(11.0)
    scene.look()
    assert manager.state(UID) == "IN PROGRESS"
    scene.look()
    (job,) = scene.jobs()
    assert (job.pipeline, job.priority) == ("scripted", 1)
    scene.set_job(job.id, state=JobState.IN_PROGRESS)
    scene.look()
    progress = manager.step(UID).ProcedureStepProgressInformationSequence[0]
    assert (progress.ProcedureStepProgress, progress.ProcedureStepProgressDescription) == (10, "analysis")
    scene.finish()
    scene.look()
    step = manager.step(UID)
    assert (step.ProcedureStepState, scene.claim().state) == ("COMPLETED", ClaimState.ENDED)
    assert step.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 100
    (performed,) = step.UnifiedProcedureStepPerformedProcedureSequence
    (output,) = performed.OutputInformationSequence
    assert (output.StudyInstanceUID, output.SeriesInstanceUID) == (scene.study, "2.25.8")
    assert output.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.7"
    assert performed.PerformedStationNameCodeSequence[0].CodeValue == "AINODE"
    calls = len(manager.calls)
    scene.look()
    assert [method for method, *_ in manager.calls[calls:]] == ["GET"]
    assert manager.changes == [(UID, "IN PROGRESS"), (UID, "COMPLETED")]


@pytest.mark.parametrize("broken", range(1, 6))
def test_a_process_that_dies_after_any_of_its_requests_ends_the_workitem_the_same_way(
    scene: PerformingScene, manager: Manager, broken: int
) -> None:
    """The manager does what it is asked and its answer is lost; a new process goes on."""
    series = scene.take()
    manager.add(UID, wanted(scene.study, series))
    manager.breaks_at = broken
    scene.wait(11.0)
    for look in range(9):
        scene.look()
        scene.restart()
        if look == 3:
            scene.set_job(scene.jobs()[0].id, state=JobState.IN_PROGRESS)
        if look == 5:
            scene.finish()
    done = [path.rpartition("/")[2] for method, path, status in manager.calls if method != "GET" and status == 200]
    assert len(done) >= 5
    assert manager.changes == [(UID, "IN PROGRESS"), (UID, "COMPLETED")]
    assert (len(scene.jobs()), scene.claim().state) == (1, ClaimState.ENDED)


def test_a_claim_whose_answer_was_lost_is_recognised_by_its_transaction_uid(
    scene: PerformingScene, manager: Manager
) -> None:
    series = scene.take()
    manager.add(UID, wanted(scene.study, series))
    manager.breaks = 1
    scene.look()
    assert (manager.state(UID), scene.claim().state) == ("IN PROGRESS", ClaimState.CLAIMING)
    scene.restart()
    scene.look()
    assert scene.claim().state == ClaimState.CLAIMED
    assert manager.locks[UID] == scene.claim().transaction_uid


def test_a_ledger_in_postgresql_requests_performs_cancels_and_searches_alike(tmp_path: Path, manager: Manager) -> None:
    with cluster() as ledger:
        scene = PerformingScene(tmp_path, manager.url, ledger=ledger)
        series = scene.take()
        manager.add(UID, wanted(scene.study, series))
        scene.wait(11.0)
        for _ in range(2):
            scene.look()
        with scene.serving() as http:
            assert http.post("/workitems?1.2.3", content=wanted(scene.study, series).to_json()).status_code == 201
            scene.wait(1.0)
            assert len(http.get(f"/workitems?ProcedureStepState=SCHEDULED&StudyInstanceUID={scene.study}").json()) == 2
            with begin_immediate(scene.node.engine) as connection:
                ask_for_cancellation(connection, "1.2.3", "RIS")
            scene.wait(1.0)
            assert http.get("/workitems?ProcedureStepState=CANCELED&PatientID=PAT1").status_code == 200
        scene.look()
        assert (manager.state(UID), scene.claim().state) == ("CANCELED", ClaimState.ENDED)
        assert len(scene.jobs()) == 1
        scene.performer._leadership.release()
        scene.inputs._leadership.release()
        scene.node.engine.dispose()


def test_a_workitem_that_another_performer_has_is_left_to_it(scene: PerformingScene, manager: Manager) -> None:
    series = scene.take()
    manager.add(UID, wanted(scene.study, series))
    manager.breaks = 1
    scene.look()
    manager.locks[UID] = "1.2.3"
    scene.look()
    scene.wait(11.0)
    scene.look()
    assert (scene.claim().state, scene.jobs()) == (ClaimState.LOST, [])


def test_what_cannot_be_performed_is_canceled_with_the_reason(scene: PerformingScene, manager: Manager) -> None:
    series = scene.take()
    two = [wanted(scene.study, uid).InputInformationSequence[0] for uid in (series, "1.2.3")]
    manager.add(UID, wanted(scene.study, series, InputInformationSequence=two))
    scene.look()
    scene.look()
    step = manager.step(UID)
    assert (step.ProcedureStepState, scene.claim().state) == ("CANCELED", ClaimState.ENDED)
    (progress,) = step.ProcedureStepProgressInformationSequence
    assert "2 series" in progress.ReasonForCancellation
    assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


def test_a_workitem_of_another_patient_than_its_images_is_canceled(scene: PerformingScene, manager: Manager) -> None:
    series = scene.take()
    manager.add(UID, wanted(scene.study, series, PatientID="PAT2"))
    scene.wait(11.0)
    for _ in range(3):
        scene.look()
    assert (manager.state(UID), scene.jobs()) == ("CANCELED", [])


def test_a_failed_analysis_is_reported_as_canceled(scene: PerformingScene, manager: Manager) -> None:
    series = scene.take()
    manager.add(UID, wanted(scene.study, series))
    scene.wait(11.0)
    for _ in range(2):
        scene.look()
    scene.finish("failed", reason=reason(ReasonCode.STATED, text="it is no chest"))
    scene.look()
    step = manager.step(UID)
    assert step.ProcedureStepState == "CANCELED"
    assert step.ProcedureStepProgressInformationSequence[0].ReasonForCancellation == "it is no chest"


def test_a_workitem_that_the_manager_has_ended_ends_its_analysis(scene: PerformingScene, manager: Manager) -> None:
    series = scene.take()
    manager.add(UID, wanted(scene.study, series))
    scene.wait(11.0)
    for _ in range(2):
        scene.look()
    manager.set_state(UID, "CANCELED")
    (job,) = scene.jobs()
    scene.set_job(job.id, state=JobState.IN_PROGRESS)
    scene.look()
    assert [job.state for job in scene.jobs()] == [JobState.CANCELED]
    assert scene.claim().state == ClaimState.LOST


def test_what_is_not_offered_is_neither_claimed_nor_kept(scene: PerformingScene, manager: Manager) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "OTHER", "99SITE", "Other"
    manager.add(UID, wanted(scene.study, "1.2.3", ScheduledWorkitemCodeSequence=[code]))
    manager.add(f"{UID}.2", wanted(scene.study, "1.2.3", WorklistLabel="Day"))
    scene.look()
    assert (manager.state(UID), scene.rows(claimed_workitem)) == ("SCHEDULED", [])
    assert manager.state(f"{UID}.2") == "SCHEDULED"


def test_a_manager_that_is_down_is_asked_again_and_nothing_is_lost(scene: PerformingScene, manager: Manager) -> None:
    series = scene.take()
    manager.add(UID, wanted(scene.study, series))
    scene.wait(11.0)
    for _ in range(2):
        scene.look()
    manager.is_down = True
    scene.finish()
    scene.look()
    assert (manager.state(UID), scene.claim().state) == ("IN PROGRESS", ClaimState.REQUESTED)
    manager.is_down = False
    scene.look()
    assert manager.state(UID) == "COMPLETED"


def test_images_that_do_not_come_in_time_end_the_workitem(tmp_path: Path, manager: Manager) -> None:
    scene = PerformingScene(tmp_path, manager.url, "wait_hours = 0.0001")
    manager.add(UID, wanted(scene.study, "1.2.3"))
    scene.look()
    with begin_immediate(scene.node.engine) as connection:
        connection.execute(claimed_workitem.update().values(claimed_at=claimed_workitem.c.claimed_at - 10.0))
    for _ in range(2):
        scene.look()
    reason_text = manager.step(UID).ProcedureStepProgressInformationSequence[0].ReasonForCancellation
    assert manager.state(UID) == "CANCELED"
    assert "did not come within" in reason_text


@pytest.fixture
def other_manager(tmp_path: Path) -> Iterator[str]:
    """The server of https://github.com/sjswerdloff/py-ups-rs, where it is installed."""
    folders = os.environ.get("AINODE_UPS_PEERS", "")
    sys.path.extend(filter(None, folders.split(":")))
    pytest.importorskip("pyupsrs", reason="py-ups-rs is not installed")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "pyupsrs.app", "--factory", "--port", str(port)],
        env={**os.environ, "PYTHONPATH": folders},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/workitems").status_code in (200, 404)
        except httpx.HTTPError:
            return False

    try:
        until(answers)
        yield url
    finally:
        server.kill()
        server.wait()


def test_workitems_of_a_manager_that_others_wrote_are_performed(tmp_path: Path, other_manager: str) -> None:
    scene = PerformingScene(tmp_path, other_manager, 'update_method = "PUT"')
    series = scene.take()
    step = wanted(scene.study, series)
    step.SOPInstanceUID = UID
    assert httpx.post(f"{other_manager}/workitems", content=step.to_json()).status_code == 201
    scene.wait(11.0)
    for _ in range(2):
        scene.look()
    (job,) = scene.jobs()
    scene.set_job(job.id, state=JobState.IN_PROGRESS)
    scene.look()
    scene.finish()
    for _ in range(2):  # this server answers 500 to a change of state that it has made
        scene.look()
    done = Dataset.from_json(httpx.get(f"{other_manager}/workitems/{UID}").text)
    assert (done.ProcedureStepState, scene.claim().state) == ("COMPLETED", ClaimState.ENDED)
    assert done.UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence
