"""UPS Pull and Watch SOP Classes, asked by pynetdicom: workitems are found and shown, and nobody else performs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import (
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)
from ups_watcher import Watched, Watcher, change_state
from workitem_scene import RULE

from node.ledger.states import JobState
from node.ledger.tables import notice

CLASSES = (UnifiedProcedureStepPull, UnifiedProcedureStepWatch, UnifiedProcedureStepQuery)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_workitems_are_found_and_shown_over_every_class_that_can_ask(tmp_path: Path, syntax: str) -> None:
    scene = Watched(tmp_path, Watcher(), RULE)
    scene.take()
    scene.wait(11.0)
    wanted = Dataset()
    wanted.ProcedureStepState, wanted.SOPInstanceUID, wanted.PatientName = "SCHEDULED", "", ""
    with scene.peer("RIS", *CLASSES, syntax=syntax) as peer:
        for sop_class in CLASSES:
            (status, step), (last, _) = peer.send_c_find(wanted, sop_class)
            assert (status.Status, last.Status, step.PatientName) == (0xFF00, 0x0000, "")
        for sop_class in CLASSES[:2]:
            status, shown = peer.send_n_get([], UnifiedProcedureStepPush, step.SOPInstanceUID, meta_uid=sop_class)
            assert (status.Status, shown.ProcedureStepState, shown.PatientID) == (0x0000, "SCHEDULED", "")
            assert "TransactionUID" not in shown
            unknown, _ = peer.send_n_get([], UnifiedProcedureStepPush, "1.2.3", meta_uid=sop_class)
            assert unknown.Status == 0xC307
        wanted.PatientID = "PAT1"
        assert [status.Status for status, _ in peer.send_c_find(wanted, CLASSES[0])] == [0xA900]


@pytest.mark.parametrize(
    ("state", "update", "changes"),
    [
        (JobState.SCHEDULED, 0xC310, (0x0124, 0xC310, 0xC310)),
        (JobState.IN_PROGRESS, 0xC301, (0xC302, 0xC301, 0xC301)),
        (JobState.COMPLETED, 0xC300, (0xC300, 0xB306, 0xC300)),
        (JobState.CANCELED, 0xC300, (0xC300, 0xC300, 0xB304)),
    ],
)
def test_nobody_else_may_claim_update_or_end_a_workitem_over_dimse(
    tmp_path: Path, state: JobState, update: int, changes: tuple[int, int, int]
) -> None:
    scene = Watched(tmp_path, Watcher(), RULE)
    scene.take()
    scene.wait(11.0)
    (job,) = scene.jobs()
    scene.set_job(job.id, state=state, outcome="findings" if state == JobState.COMPLETED else None)
    wanted = Dataset()
    wanted.SOPInstanceUID = ""
    with scene.peer("RIS", UnifiedProcedureStepPull) as peer:
        (_, step), _ = peer.send_c_find(wanted, UnifiedProcedureStepPull)
        uid = step.SOPInstanceUID
        change = Dataset()
        change.TransactionUID, change.ProcedureStepLabel = "1.2.3", "other"
        answer, _ = peer.send_n_set(change, UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepPull)
        assert answer.Status == update
        answer, _ = peer.send_n_set(change, UnifiedProcedureStepPush, "1.2.3", meta_uid=UnifiedProcedureStepPull)
        assert answer.Status == 0xC307
        assert changes == tuple(change_state(peer, uid, target) for target in ("IN PROGRESS", "COMPLETED", "CANCELED"))
        assert change_state(peer, uid, "SCHEDULED") == 0xC303
        assert change_state(peer, uid, "DONE") == 0x0115
        assert change_state(peer, "1.2.3", "IN PROGRESS") == 0xC307
    (now,) = scene.jobs()
    assert now.state == state
    refused = [row.detail.partition(" ")[0] for row in scene.rows(notice) if row.what == "refused"]
    assert refused == (["claim"] if state == JobState.SCHEDULED else [])
