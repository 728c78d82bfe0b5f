"""UPS-RS of the node: others watch its analyses and request some, by HTTP and by a client that others wrote."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicom_files import ct_series
from pydicom import Dataset
from workitem_scene import RULE, TOKENS, WorkitemScene, state, step_of, wanted

from node.ledger.states import JobStage, JobState
from node.ledger.tables import notice, workitem
from node.operate.lookup import find_job
from node.reasons import ReasonCode, reason
from node.workitems.job_uid import JobUids

UID = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture
def scene(tmp_path: Path) -> WorkitemScene:
    return WorkitemScene(tmp_path)


def create(http: httpx.Client, step: Dataset, uid: str = UID) -> httpx.Response:
    return http.post(f"/workitems?{uid}", content=step.to_json())


def test_a_requested_analysis_becomes_one_job_when_its_series_is_complete(scene: WorkitemScene) -> None:
    series = scene.take()
    with scene.serving() as http:
        answer = create(http, wanted(scene.study, series))
        assert (answer.status_code, answer.text) == (201, "")
        assert answer.headers["location"] == f"{scene.url}/workitems/{UID}"
        step = step_of(http, UID)
        assert (step.ProcedureStepState, step.InputReadinessState) == ("SCHEDULED", "UNAVAILABLE")
        assert scene.jobs() == []
        scene.wait(11.0)
        scene.wait(1.0)
        scene.wait(1.0)
        (job,) = scene.jobs()
        assert (job.pipeline, job.destinations, job.priority) == ("scripted", ("pacs",), 1)
        assert step_of(http, UID).InputReadinessState == "READY"
        again = create(http, wanted(scene.study, series))
        assert again.status_code == 409
        assert "already exists" in again.headers["warning"]
        scene.wait(1.0)
        assert len(scene.jobs()) == 1
        assert not scene.differences()


def test_a_workitem_shows_inputs_patient_progress_and_what_was_requested(scene: WorkitemScene) -> None:
    series = scene.take()
    with scene.serving() as http:
        create(http, wanted(scene.study, series, ScheduledProcedureStepPriority="LOW"))
        scene.wait(11.0)
        (job,) = scene.jobs()
        scene.set_job(job.id, state=JobState.IN_PROGRESS)
        step = step_of(http, UID)
    of_job = JobUids(scene.node.engine).uid(job.id)
    for name in (UID, of_job):  # as somebody quotes it on the telephone
        assert find_job(scene.config, scene.node.engine, scene.node.spool, name).id == job.id
    assert (step.SOPInstanceUID, step.SOPClassUID) == (UID, "1.2.840.10008.5.1.4.34.6.1")
    assert (step.ProcedureStepLabel, step.WorklistLabel) == ("Chest CT with AI", "Night")
    assert (step.ScheduledProcedureStepPriority, step.ProcedureStepState) == ("LOW", "IN PROGRESS")
    assert (str(step.PatientName), step.PatientID) == ("Müller^Eva", "PAT1")
    assert step.ReferencedRequestSequence[0].AccessionNumber == "A1"
    assert step.ScheduledWorkitemCodeSequence[0].CodeValue == "AI-NODULE"
    (item,) = step.InputInformationSequence
    assert (item.StudyInstanceUID, item.SeriesInstanceUID) == (scene.study, series)
    assert len(item.ReferencedSOPSequence) == 4
    assert item.WADORSRetrievalSequence[0].RetrieveURL == f"{scene.url}/studies/{scene.study}/series/{series}"
    (progress,) = step.ProcedureStepProgressInformationSequence
    assert (progress.ProcedureStepProgress, progress.ProcedureStepProgressDescription) == (10, "analysis")
    assert "TransactionUID" not in step


def test_analyses_of_the_rules_are_workitems_and_found_by_what_a_watcher_asks(tmp_path: Path) -> None:
    scene = WorkitemScene(tmp_path, RULE)
    series = scene.take()
    scene.wait(11.0)
    with scene.serving("watcher") as http:
        (workitem,) = http.get("/workitems").json()
        uid = workitem["00080018"]["Value"][0]
        for query, number in (
            (f"StudyInstanceUID={scene.study}", 1),
            (f"InputInformationSequence.SeriesInstanceUID={series}", 1),
            (f"00404021.0020000E={series}", 1),
            ("StudyInstanceUID=1.2.3", 0),
            ("ProcedureStepState=SCHEDULED", 1),
            ("00741000=COMPLETED", 0),
            ("ScheduledWorkitemCodeSequence.CodeValue=AI-NOD*", 1),
            ("ScheduledWorkitemCodeSequence.CodeValue=CT", 0),
            ("PatientID=PAT1&PatientName=m*", 1),
            ("PatientID=PAT2", 0),
            ("ReferencedRequestSequence.AccessionNumber=A1", 1),
            ("ScheduledProcedureStepStartDateTime=20200101-", 1),
            ("ScheduledProcedureStepStartDateTime=-20200101", 0),
            (f"SOPInstanceUID={uid}&includefield=all&limit=1", 1),
        ):
            answer = http.get(f"/workitems?{query}")
            assert answer.status_code == (200 if number else 204), query
            assert len(answer.json() if number else []) == number, query
        assert http.get("/workitems?Allergies=x").status_code == 400
        assert step_of(http, uid).ProcedureStepLabel == "Nodules on chest CT"
        (job,) = scene.jobs()
        scene.set_job(job.id, state=JobState.COMPLETED, stage=JobStage.DELIVER, outcome="findings")
        assert state(http, uid) == "COMPLETED"
        assert step_of(http, uid).UnifiedProcedureStepPerformedProcedureSequence[0].PerformedProcedureStepEndDateTime


def test_a_request_for_what_the_rules_have_decided_on_follows_that_job(tmp_path: Path) -> None:
    scene = WorkitemScene(tmp_path, RULE)
    series = scene.take()
    scene.wait(11.0)
    with scene.serving() as http:
        (of_rule,) = (workitem["00080018"]["Value"][0] for workitem in http.get("/workitems").json())
        assert create(http, wanted(scene.study, series)).status_code == 201
        scene.wait(1.0)
        (job,) = scene.jobs()
        scene.set_job(job.id, state=JobState.IN_PROGRESS)
        assert (state(http, UID), state(http, of_rule)) == ("IN PROGRESS", "IN PROGRESS")
        assert len(http.get("/workitems").json()) == 2


def test_a_cancellation_ends_the_analysis_and_says_who_asked(scene: WorkitemScene) -> None:
    series = scene.take()
    with scene.serving() as http:
        create(http, wanted(scene.study, series))
        scene.wait(11.0)
        answer = http.post(f"/workitems/{UID}/cancelrequest", content='{"00741238": {"vr": "LT", "Value": ["no"]}}')
        assert answer.status_code == 202
        (job,) = scene.jobs()
        assert job.state == JobState.CANCELED
        step = step_of(http, UID)
        assert step.ProcedureStepState == "CANCELED"
        (progress,) = step.ProcedureStepProgressInformationSequence
        assert progress.ReasonForCancellation == "cancelled by ris"
        assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
        again = http.post(f"/workitems/{UID}/cancelrequest")
        assert again.status_code == 409
        assert "already in the requested state of CANCELED" in again.headers["warning"]


def test_a_request_that_is_canceled_before_its_series_is_complete_makes_no_job(scene: WorkitemScene) -> None:
    series = scene.take()
    with scene.serving() as http:
        create(http, wanted(scene.study, series))
        assert http.post(f"/workitems/{UID}/cancelrequest").status_code == 202
        scene.wait(11.0)
        assert (scene.jobs(), state(http, UID)) == ([], "CANCELED")


def test_what_came_to_nothing_is_begun_again_for_another_request_and_the_first_one_stays_canceled(
    scene: WorkitemScene,
) -> None:
    series = scene.take()
    with scene.serving() as http:
        create(http, wanted(scene.study, series))
        scene.wait(11.0)
        http.post(f"/workitems/{UID}/cancelrequest")
        assert create(http, wanted(scene.study, series), f"{UID}.2").status_code == 201
        scene.wait(1.0)
        (job,) = scene.jobs()
        assert (job.state, job.run) == (JobState.SCHEDULED, 1)
        assert (state(http, UID), state(http, f"{UID}.2")) == ("CANCELED", "SCHEDULED")


def test_a_request_survives_late_images_with_a_job_on_all_of_them(scene: WorkitemScene) -> None:
    images = ct_series(n=4, size=16, study=scene.study)
    series = scene.receive(images[:3])
    with scene.serving() as http:
        create(http, wanted(scene.study, series))
        scene.wait(11.0)
        scene.receive(images[3:])
        scene.wait(11.0)
        scene.wait(1.0)
        jobs = {job.generation: job.state for job in scene.jobs()}
        assert jobs == {1: JobState.CANCELED, 2: JobState.SCHEDULED}
        assert state(http, UID) == "SCHEDULED"
        assert not scene.differences()


def test_nobody_else_may_claim_update_or_end_a_workitem(scene: WorkitemScene) -> None:
    series = scene.take()
    claim = {"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}, "00081195": {"vr": "UI", "Value": ["1.2.3"]}}
    with scene.serving() as http:
        create(http, wanted(scene.study, series))
        for method, path, body, status, words in (
            ("PUT", f"/workitems/{UID}/state", claim, 409, "inconsistent with the state of the UPS Instance"),
            ("PUT", f"/workitems/{UID}/state", {"00741000": claim["00741000"]}, 400, "Transaction UID is missing"),
            ("POST", f"/workitems/{UID}", {}, 409, "inconsistent with the current state"),
            ("PUT", f"/workitems/{UID}?transaction-uid=1.2", {}, 409, "inconsistent with the current state"),
        ):
            answer = http.request(method, path, json=body)
            assert (answer.status_code, words in answer.headers["warning"]) == (status, True), answer.text
        assert http.request("PUT", "/workitems/1.2.3/state", json=claim).status_code == 404
        assert state(http, UID) == "SCHEDULED"


@pytest.mark.parametrize(
    ("attributes", "status", "words"),
    [
        ({"PatientID": "PAT2"}, 400, "not that of the images"),
        ({"ProcedureStepState": "COMPLETED"}, 400, "SCHEDULED"),
        ({"ScheduledWorkitemCodeSequence": []}, 400, "(AI-NODULE, 99SITE)"),
        ({"SOPInstanceUID": "1.2.3"}, 400, "different workitems"),
        ({"InputInformationSequence": [], "StudyInstanceUID": "1.2.3"}, 400, "holds no images"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason_and_kept_nowhere(
    scene: WorkitemScene, attributes: dict[str, Any], status: int, words: str
) -> None:
    series = scene.take()
    with scene.serving() as http:
        answer = create(http, wanted(scene.study, series, **attributes))
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
        assert http.post("/workitems?no-uid", content="{}").status_code == 400
        assert http.post(f"/workitems?{UID}", content=b" " * (1 << 20) + b"{} ").status_code == 413
        xml = http.post(f"/workitems?{UID}", content="<a/>", headers={"content-type": "application/dicom+xml"})
        assert xml.status_code == 415
    assert scene.rows(workitem) == []


def test_a_study_without_a_series_is_analysed_in_the_one_that_a_rule_matches(tmp_path: Path) -> None:
    rule = RULE.replace('Modality = "CT"', 'SeriesDescription = "lung"').replace('["scripted"]', '["scripted"]')
    scene = WorkitemScene(tmp_path, rule)
    chosen = scene.take(SeriesDescription="lung")
    scene.take(SeriesDescription="bone")
    scene.wait(11.0)
    with scene.serving() as http:
        assert create(http, wanted(scene.study)).status_code == 201
        scene.wait(1.0)
        assert step_of(http, UID).InputInformationSequence[0].SeriesInstanceUID == chosen


def test_a_study_of_which_no_series_can_be_chosen_is_refused(scene: WorkitemScene) -> None:
    scene.take()
    scene.take()
    scene.wait(11.0)
    with scene.serving() as http:
        answer = create(http, wanted(scene.study))
        assert (answer.status_code, "name the series" in answer.text) == (400, True)


def test_a_failed_analysis_is_canceled_with_its_reason(scene: WorkitemScene) -> None:
    series = scene.take()
    with scene.serving() as http:
        create(http, wanted(scene.study, series))
        scene.wait(11.0)
        (job,) = scene.jobs()
        why = reason(ReasonCode.STATED, text="it is no chest")
        scene.set_job(job.id, state=JobState.COMPLETED, stage=JobStage.DELIVER, outcome="failed", reason=why)
        step = step_of(http, UID)
        assert step.ProcedureStepState == "CANCELED"
        assert step.ProcedureStepProgressInformationSequence[0].ReasonForCancellation == "it is no chest"


def test_clients_do_what_their_services_allow_and_every_request_is_audited(
    scene: WorkitemScene, caplog: pytest.LogCaptureFixture
) -> None:
    series = scene.take()
    with scene.serving("watcher") as http:
        assert create(http, wanted(scene.study, series)).status_code == 403
        assert http.post(f"/workitems/{UID}/cancelrequest").status_code == 403
        assert http.get("/studies").status_code == 403
        ris = {"authorization": f"Bearer {TOKENS['ris']}"}
        created = http.post(f"/workitems?{UID}", content=wanted(scene.study, series).to_json(), headers=ris)
        assert created.status_code == 201
        assert http.get("/workitems", headers={"authorization": f"Bearer {TOKENS['viewer']}"}).status_code == 403
        assert httpx.get(f"{scene.url}/workitems").status_code == 401
    (act,) = [row for row in scene.rows(notice) if row.what == "act"]
    assert (act.who, act.detail) == ("ris", f"requested scripted of study {scene.study} as workitem {UID}")
    assert "PAT1" not in caplog.text
    assert "Müller" not in caplog.text


def third_party() -> Any:
    """The client of https://github.com/sjswerdloff/dicom-ups-rs-client, where it is installed."""
    sys.path.extend(filter(None, os.environ.get("AINODE_UPS_PEERS", "").split(":")))
    return pytest.importorskip("dicom_ups_rs_client", reason="dicom-ups-rs-client is not installed")


def test_a_client_that_others_wrote_requests_watches_and_cancels(scene: WorkitemScene) -> None:
    peer = third_party()
    series = scene.take()
    scene.wait(11.0)
    with scene.serving():
        client = peer.UPSRSClient(scene.url, max_retries=0)
        client.session.headers["authorization"] = f"Bearer {TOKENS['ris']}"
        done, answer = client.create_workitem(wanted(scene.study, series).to_json_dict(), UID)
        assert done, answer
        assert answer["location"].endswith(UID)
        done, workitems = client.search_workitems({"ProcedureStepState": "SCHEDULED", "00100020": "PAT1"})
        assert (done, [workitem["00080018"]["Value"][0] for workitem in workitems]) == (True, [UID])
        scene.wait(1.0)
        done, step = client.retrieve_workitem(UID)
        assert (done, Dataset.from_json(step).InputReadinessState) == (True, "READY")
        done, why = client.change_workitem_state(UID, "IN PROGRESS")
        assert (done, "409" in why, "inconsistent" in why) == (False, True, True)
        done, why = client.update_workitem(UID, "1.2.3", {})
        assert (done, "409" in why) == (False, True)
        done, answer = client.request_cancellation(UID, "not needed")
        assert done, answer
        done, why = client.request_cancellation(UID, "not needed")
        assert (done, "already in the requested state" in why) == (False, True)
        assert client.search_workitems({"ProcedureStepState": "SCHEDULED"}) == (True, [])
    assert [job.state for job in scene.jobs()] == [JobState.CANCELED]
