"""UPS Push SOP Class over DIMSE, asked by pynetdicom: N-CREATE, N-GET and the request for cancellation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import UnifiedProcedureStepPull, UnifiedProcedureStepPush, UnifiedProcedureStepQuery
from real_peers import free_port
from receivers import member
from workitem_scene import RULE, WorkitemScene, wanted

from node.ledger.states import JobStage, JobState
from node.ledger.tables import notice, workitem
from node.operate.metrics import exposition
from node.receive.receiver import Receiver

UID = "1.2.826.0.1.3680043.8.498.5"


@contextmanager
def push(scene: WorkitemScene, calling: str = "RIS", syntax: str = ExplicitVRLittleEndian) -> Iterator[Association]:
    """An association with the node's receiver."""
    ae = scene.config.ae.model_copy(update={"port": free_port(), "address": "127.0.0.1"})
    config = scene.config.model_copy(update={"ae": ae})
    engine, spool = scene.node.engine, scene.node.spool
    receiver = Receiver(config, engine, spool, member(engine, spool))
    receiver.start()
    try:
        entity = AE(ae_title=calling)
        proposed = (UnifiedProcedureStepPush, UnifiedProcedureStepPull, UnifiedProcedureStepQuery)
        contexts = [build_context(sop_class, syntax) for sop_class in proposed]
        association = entity.associate("127.0.0.1", ae.port, contexts, ae_title="AINODE")
        assert association.is_established
        yield association
        association.release()
    finally:
        receiver.stop(2.0)


def get(peer: Association, uid: str = UID, tags: list[int] | None = None) -> tuple[int, Dataset]:
    status, step = peer.send_n_get(tags or [], UnifiedProcedureStepPush, uid)
    return status.Status, step


def cancel(peer: Association, uid: str = UID) -> int:
    why = Dataset()
    why.ReasonForCancellation = "not needed"
    return int(peer.send_n_action(why, 2, UnifiedProcedureStepPush, uid)[0].Status)


def metrics(scene: WorkitemScene) -> bytes:
    return exposition(scene.config, scene.node.engine, scene.node.spool)


@pytest.fixture
def scene(tmp_path: Path) -> WorkitemScene:
    return WorkitemScene(tmp_path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_an_analysis_is_requested_watched_and_canceled_by_dimse(scene: WorkitemScene, syntax: str) -> None:
    series = scene.take()
    with push(scene, syntax=syntax) as peer:
        accepted = {context.abstract_syntax for context in peer.accepted_contexts}
        assert accepted == {UnifiedProcedureStepPush, UnifiedProcedureStepPull, UnifiedProcedureStepQuery}
        status, _ = peer.send_n_create(wanted(scene.study, series), UnifiedProcedureStepPush, UID)
        assert status.Status == 0x0000
        again, _ = peer.send_n_create(wanted(scene.study, series), UnifiedProcedureStepPush, UID)
        assert again.Status == 0x0111
        status, step = get(peer)
        assert (status, step.ProcedureStepState, step.ProcedureStepLabel) == (0, "SCHEDULED", "Chest CT with AI")
        assert step.PatientName == ""
        scene.wait(11.0)
        (job,) = scene.jobs()
        scene.set_job(job.id, state=JobState.IN_PROGRESS, stage=JobStage.ENCODE)
        status, step = get(peer, tags=[0x00741000, 0x00741002])
        assert (len(step), step.ProcedureStepState) == (2, "IN PROGRESS")
        assert step.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 60
        assert cancel(peer) == 0x0000
        scene.wait(1.0)
        assert [job.state for job in scene.jobs()] == [JobState.CANCELED]
        step = get(peer)[1]
        assert step.ProcedureStepState == "CANCELED"
        assert step.ProcedureStepProgressInformationSequence[0].ReasonForCancellation == "cancelled by RIS"
        assert cancel(peer) == 0xB304
    acts = [row.detail.partition(" ")[0] for row in scene.rows(notice) if row.what == "act"]
    assert acts == ["requested", "asked"]


def test_a_workitem_gets_a_uid_when_its_requester_gives_none(scene: WorkitemScene) -> None:
    series = scene.take()
    with push(scene) as peer:
        peer.send_n_create(wanted(scene.study, series), UnifiedProcedureStepPush)
        (row,) = scene.rows(workitem)
        assert get(peer, row.uid)[1].ProcedureStepState == "SCHEDULED"


def test_a_request_is_canceled_before_it_has_a_job(scene: WorkitemScene) -> None:
    series = scene.take()
    with push(scene) as peer:
        peer.send_n_create(wanted(scene.study, series), UnifiedProcedureStepPush, UID)
        assert b'ainode_requested_workitems{state="pending"} 1.0' in metrics(scene)
        assert cancel(peer) == 0x0000
        scene.wait(1.0)
        assert b'ainode_requested_workitems{state="canceled"} 1.0' in metrics(scene)
        assert get(peer)[1].ProcedureStepState == "CANCELED"
        scene.wait(11.0)
        assert scene.jobs() == []


def test_nobody_cancels_what_another_system_has_requested_or_the_rules_have_decided_on(tmp_path: Path) -> None:
    scene = WorkitemScene(tmp_path, RULE)
    series = scene.take()
    scene.wait(11.0)
    with scene.serving() as http:
        (of_rule,) = (workitem["00080018"]["Value"][0] for workitem in http.get("/workitems").json())
        http.post(f"/workitems?{UID}", content=wanted(scene.study, series).to_json())
    with push(scene, "OTHER") as peer:
        assert get(peer, of_rule)[1].ProcedureStepState == "SCHEDULED"
        assert (cancel(peer, of_rule), cancel(peer)) == (0xC313, 0xC313)
        assert (cancel(peer, "1.2.3"), get(peer, "1.2.3")[0]) == (0xC307, 0xC307)
        claim = Dataset()
        claim.ProcedureStepState, claim.TransactionUID = "IN PROGRESS", "1.2.3"
        assert peer.send_n_action(claim, 1, UnifiedProcedureStepPush, UID)[0].Status == 0x0123
        scene.wait(1.0)
    assert [job.state for job in scene.jobs()] == [JobState.SCHEDULED]


def test_what_cannot_be_done_is_refused_with_a_status_and_kept_nowhere(scene: WorkitemScene) -> None:
    series = scene.take()
    with push(scene) as peer:
        for step in (
            wanted(scene.study, "1.2.3"),
            wanted(scene.study, series, ScheduledWorkitemCodeSequence=[]),
            wanted(scene.study, series, ProcedureStepState="IN PROGRESS"),
            wanted(scene.study, series, PatientID="of another patient"),
            wanted(scene.study, PatientID="of another patient"),
        ):
            status, _ = peer.send_n_create(step, UnifiedProcedureStepPush, UID)
            assert status.Status == 0x0106
            assert 0 < len(status.ErrorComment) <= 64
    assert scene.rows(workitem) == []


def find(peer: Association, **keys: object) -> tuple[int, list[Dataset]]:
    identifier = Dataset()
    identifier.SOPInstanceUID = identifier.ProcedureStepLabel = ""
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    *matches, (last, _) = peer.send_c_find(identifier, UnifiedProcedureStepQuery)
    assert all(status.Status == 0xFF00 for status, _ in matches)
    return last.Status, [step for _, step in matches]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_workitems_are_found_by_dimse_by_what_is_asked(tmp_path: Path, syntax: str) -> None:
    scene = WorkitemScene(tmp_path, RULE)
    series = scene.take()
    scene.wait(11.0)
    code, other, item = Dataset(), Dataset(), Dataset()
    code.CodeValue, other.CodeValue, item.SeriesInstanceUID = "AI-NOD*", "CT", series
    with push(scene, syntax=syntax) as peer:
        peer.send_n_create(wanted(scene.study, series), UnifiedProcedureStepPush, UID)
        for keys, labels in (
            ({}, ["Chest CT with AI", "Nodules on chest CT"]),
            ({"ProcedureStepState": "SCHEDULED"}, ["Chest CT with AI", "Nodules on chest CT"]),
            ({"ProcedureStepState": "COMPLETED"}, []),
            ({"SOPInstanceUID": UID}, ["Chest CT with AI"]),
            ({"StudyInstanceUID": scene.study, "WorklistLabel": "Ni*"}, ["Chest CT with AI"]),
            ({"StudyInstanceUID": "1.2.3"}, []),
            ({"ScheduledWorkitemCodeSequence": [code]}, ["Chest CT with AI", "Nodules on chest CT"]),
            ({"ScheduledWorkitemCodeSequence": [other]}, []),
            ({"InputInformationSequence": [item]}, ["Chest CT with AI", "Nodules on chest CT"]),
            ({"ScheduledProcedureStepStartDateTime": "20200101-"}, ["Chest CT with AI", "Nodules on chest CT"]),
            ({"ScheduledProcedureStepStartDateTime": "-20200101"}, []),
            ({"PatientName": "", "AdmissionID": ""}, ["Chest CT with AI", "Nodules on chest CT"]),
        ):
            status, steps = find(peer, **keys)
            assert (status, sorted(step.ProcedureStepLabel for step in steps)) == (0x0000, labels), keys
            assert all({element.keyword for element in step} >= {"SOPInstanceUID", *keys} for step in steps)
        assert find(peer, PatientID="PAT1") == (0xA900, [])


def test_a_label_in_any_script_comes_back_as_it_was_sent(scene: WorkitemScene) -> None:
    step = wanted(scene.study, scene.take())
    step.SpecificCharacterSet, step.ProcedureStepLabel = "ISO_IR 192", "Größe: 肺结节"
    with push(scene) as peer:
        peer.send_n_create(step, UnifiedProcedureStepPush, UID)
        (workitem,) = find(peer, ScheduledProcedureStepPriority="")[1]
        for answer in (get(peer)[1], get(peer, tags=[0x00741204])[1], workitem):
            assert answer.ProcedureStepLabel == "Größe: 肺结节"


def test_without_a_procedure_nothing_of_it_is_offered(scene: WorkitemScene) -> None:
    scene.config = scene.config.model_copy(update={"procedures": {}})
    with pytest.raises(AssertionError), push(scene):  # no context is accepted, so pynetdicom aborts
        pass
