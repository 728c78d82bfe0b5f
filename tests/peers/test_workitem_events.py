"""UPS Watch and Event SOP Classes, with pynetdicom as subscriber: who is told of what, when it listens and when not."""

from __future__ import annotations

from pathlib import Path

import postgres
import pytest
from pydicom import Dataset
from pynetdicom.sop_class import UnifiedProcedureStepPush, UnifiedProcedureStepWatch
from ups_watcher import (
    EVERY,
    MATCHING,
    SUBSCRIBE,
    SUSPEND,
    UID,
    UNSUBSCRIBE,
    WATCHER,
    Watched,
    Watcher,
    act,
    create,
    look,
)
from workitem_scene import RULE

from node.deliver.workitem_events import WorkitemEvents
from node.ledger.states import JobStage, JobState
from node.ledger.tables import notice, workitem_subscriber, workitem_watch


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_subscriber_of_all_is_told_of_state_progress_and_end_of_every_workitem(
    tmp_path: Path, watcher: Watcher, database: str, request: pytest.FixtureRequest
) -> None:
    is_server = database == "postgresql"
    url = postgres.new_database(request.getfixturevalue("postgres_server"), "watched") if is_server else ""
    scene = Watched(tmp_path, watcher, RULE, url)
    request.addfinalizer(scene.node.engine.dispose)
    request.addfinalizer(scene.events.end)
    series = scene.take()
    scene.wait(11.0)
    (job,) = scene.jobs()
    with scene.peer() as peer:
        assert act(peer, SUBSCRIBE, EVERY) == 0x0000
    with watcher.listening():
        assert look(scene) == 2
        assert watcher.told() == ["assigned to AINODE", "SCHEDULED"]
        assert look(scene) == 0
        scene.set_job(job.id, state=JobState.IN_PROGRESS)
        look(scene)
        assert watcher.told() == ["IN PROGRESS", "10 %"]
        scene.set_job(job.id, stage=JobStage.ENCODE)
        look(scene)
        assert watcher.told() == ["60 %"]
        scene.set_job(job.id, stage=JobStage.DELIVER, state=JobState.COMPLETED, outcome="findings")
        look(scene)
        assert watcher.told() == ["COMPLETED"]
        create(scene, series)
        look(scene)
        assert {uid for uid, _, _ in watcher.events} == {UID}
        assert watcher.told() == ["assigned to AINODE", "SCHEDULED"]
        scene.wait(1.0)  # it follows the job of the rule
        look(scene)
        assert watcher.told() == ["IN PROGRESS", "COMPLETED"]
        scene.set_job(job.id, state=JobState.SCHEDULED, stage=JobStage.INFER, outcome=None)
        assert look(scene) == 2
        assert watcher.told() == ["SCHEDULED"] * 2
    assert [row.detail for row in scene.rows(notice) if "subscribed" in row.detail] == [
        f"subscribed {WATCHER}: all workitems"
    ]


def test_a_subscriber_of_one_workitem_is_told_of_no_other(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher, RULE)
    series = scene.take()
    scene.wait(11.0)
    create(scene, series)
    with scene.peer() as peer, watcher.listening():
        assert act(peer, SUBSCRIBE, UID) == 0x0000
        look(scene)
        assert {uid for uid, _, _ in watcher.events} == {UID}
        assert watcher.told() == ["assigned to AINODE", "SCHEDULED"]
        assert act(peer, SUBSCRIBE, UID) == 0x0000  # a watcher that was started again knows nothing
        look(scene)
        assert watcher.told() == ["assigned to AINODE", "SCHEDULED"]
        assert act(peer, UNSUBSCRIBE, UID) == 0x0000
        scene.set_job(scene.jobs()[0].id, state=JobState.IN_PROGRESS)
        assert look(scene) == 0
        assert scene.rows(workitem_watch) == []


def test_a_request_for_cancellation_reaches_subscribers_with_its_reason(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    series = scene.take()
    create(scene, series)
    with scene.peer() as peer, watcher.listening():
        act(peer, SUBSCRIBE, UID)
        look(scene)
        watcher.told()
    why = Dataset()
    why.ReasonForCancellation = "wrong patient"
    with scene.peer("RIS", UnifiedProcedureStepWatch) as peer:
        assert peer.send_n_action(why, 2, UnifiedProcedureStepPush, UID)[0].Status == 0x0000
    with watcher.listening():
        look(scene)
        assert watcher.events[0][2].ReasonForCancellation == "wrong patient"
        assert watcher.told() == ["cancel requested by RIS"]
        assert look(scene) == 0
        scene.wait(1.0)
        look(scene)
        (*_, (_, _, last)) = watcher.events
        assert last.ReasonForCancellation == "cancelled by RIS"
        assert watcher.told() == ["IN PROGRESS", "CANCELED"]  # PS3.4 CC.2.2.3


def test_a_filtered_subscription_is_of_matching_workitems_only(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher, RULE)
    series = scene.take()
    scene.wait(11.0)
    with scene.peer() as peer, watcher.listening():
        assert act(peer, SUBSCRIBE, MATCHING, WorklistLabel="Ni*") == 0x0000
        assert look(scene) == 0
        create(scene, series)
        look(scene)
        assert {uid for uid, _, _ in watcher.events} == {UID}
        watcher.told()
        assert act(peer, SUBSCRIBE, MATCHING) == 0x0120
        assert act(peer, SUBSCRIBE, MATCHING, PatientID="PAT1") == 0x0115
        assert act(peer, UNSUBSCRIBE, MATCHING) == 0x0000
    assert scene.rows(workitem_subscriber) == scene.rows(workitem_watch) == []


def test_a_suspended_subscription_keeps_what_it_has_and_takes_no_more(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    series = scene.take()
    create(scene, series)
    with scene.peer() as peer, watcher.listening():
        act(peer, SUBSCRIBE, EVERY)
        look(scene)
        watcher.told()
        assert act(peer, SUSPEND, EVERY) == 0x0000
        create(scene, series, f"{UID}.1")
        assert look(scene) == 0
        scene.wait(11.0)
        scene.set_job(scene.jobs()[0].id, state=JobState.IN_PROGRESS)
        look(scene)
        assert {uid for uid, _, _ in watcher.events} == {UID}
        assert act(peer, UNSUBSCRIBE, EVERY) == 0x0000
        scene.set_job(scene.jobs()[0].id, stage=JobStage.ENCODE)
        assert look(scene) == 0


def test_a_workitem_that_was_unsubscribed_from_stays_so_for_a_subscriber_of_all(
    tmp_path: Path, watcher: Watcher
) -> None:
    scene = Watched(tmp_path, watcher, RULE)
    scene.take()
    scene.wait(11.0)
    with scene.peer() as peer, watcher.listening():
        act(peer, SUBSCRIBE, EVERY)
        look(scene)
        (uid, *_), _ = watcher.events
        watcher.told()
        assert act(peer, UNSUBSCRIBE, uid) == 0x0000
        scene.set_job(scene.jobs()[0].id, state=JobState.IN_PROGRESS)
        assert look(scene) == 0
        assert act(peer, SUBSCRIBE, EVERY) == 0x0000
        look(scene)
        assert watcher.told() == ["assigned to AINODE", "IN PROGRESS", "10 %"]


def test_a_subscriber_that_is_away_gets_the_present_state_when_it_is_back(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher, RULE)
    scene.take()
    scene.wait(11.0)
    (job,) = scene.jobs()
    with scene.peer() as peer:
        act(peer, SUBSCRIBE, EVERY)
    with watcher.listening():
        look(scene)
        watcher.told()
    scene.set_job(job.id, state=JobState.IN_PROGRESS)
    assert look(scene) == 0
    (row,) = scene.rows(workitem_subscriber)
    assert (row.failures, "refused" in row.error) == (1, True)
    for stage in (JobStage.ENCODE, JobStage.DELIVER):
        scene.set_job(job.id, stage=stage)
    scene.set_job(job.id, state=JobState.COMPLETED, outcome="findings")
    assert look(scene) == 0  # not due yet
    assert look(scene, 6.0) == 0
    assert scene.rows(workitem_subscriber)[0].failures == 2
    with watcher.listening():
        assert look(scene, 6.0) == 0
        look(scene, 30.0)
        assert watcher.told() == ["IN PROGRESS", "COMPLETED"]
    assert scene.rows(workitem_subscriber)[0].failures == 0
    assert len(scene.rows(workitem_watch)) == 1


def test_a_report_that_is_refused_is_repeated_and_holds_up_no_other(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    series = scene.take()
    create(scene, series)
    create(scene, series, f"{UID}.1")
    watcher.refuses = {UID}
    with scene.peer() as peer, watcher.listening():
        act(peer, SUBSCRIBE, EVERY)
        look(scene)
        assert {uid for uid, _, _ in watcher.events} == {f"{UID}.1"}
        watcher.told()
        watcher.refuses.clear()
        assert look(scene) == 0
        look(scene, 6.0)
        assert watcher.told(UID) == ["assigned to AINODE", "SCHEDULED"]


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_connection_that_breaks_amid_reports_loses_none(tmp_path: Path, watcher: Watcher, answered: int) -> None:
    scene = Watched(tmp_path, watcher)
    series = scene.take()
    for number in range(3):
        create(scene, series, f"{UID}.{number}")
    watcher.dies_after = answered
    with scene.peer() as peer, watcher.listening():
        act(peer, SUBSCRIBE, EVERY)
        look(scene)
        assert scene.rows(workitem_subscriber)[0].failures == 1
        look(scene, 6.0)
        for number in range(3):
            assert "SCHEDULED" in [
                str(of.get("ProcedureStepState")) for uid, _, of in watcher.events if uid == f"{UID}.{number}"
            ]
        assert look(scene, 6.0) == 0


def test_a_subscriber_that_answers_no_role_selection_is_told_too(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take())
    with scene.peer() as peer, watcher.listening(with_role=False):
        act(peer, SUBSCRIBE, EVERY)
        look(scene)
        assert watcher.told() == ["assigned to AINODE", "SCHEDULED"]


def test_no_event_names_the_patient(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher, RULE)
    scene.take()
    scene.wait(11.0)
    with scene.peer() as peer, watcher.listening():
        act(peer, SUBSCRIBE, EVERY)
        look(scene)
        scene.set_job(scene.jobs()[0].id, state=JobState.CANCELED)
        look(scene)
        told = "".join(of.to_json() for _, _, of in watcher.events)
    assert watcher.told()[-2:] == ["IN PROGRESS", "CANCELED"]
    for text in ("PAT1", "Eva", "A1"):
        assert text not in told


def test_who_may_subscribe_whom(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take())
    with scene.peer() as peer:
        assert act(peer, SUBSCRIBE, UID, "NOBODY") == 0xC308
        assert act(peer, SUBSCRIBE, UID, "STORE") == 0xC308
        assert act(peer, SUBSCRIBE, UID, "RIS") == 0xC308  # without a host
        assert act(peer, SUBSCRIBE, UID, "GROUPED") == 0x0124
        assert act(peer, SUBSCRIBE, UID, "") == 0x0120
        assert act(peer, SUBSCRIBE, UID, lock="") == 0x0120
        assert act(peer, SUBSCRIBE, "1.2.3") == 0xC307
        assert act(peer, UNSUBSCRIBE, "1.2.3") == 0xC307
        assert act(peer, SUSPEND, UID) == 0xC314
        assert act(peer, 6, UID) == 0x0123
        assert act(peer, 1, UID) == 0x0123
        assert scene.rows(workitem_subscriber) == []
        assert act(peer, SUBSCRIBE, UID, lock="TRUE") == 0x0000
        assert [row.locked for row in scene.rows(workitem_watch)] == [True]
        assert act(peer, UNSUBSCRIBE, f"{EVERY}") == 0x0000
        assert scene.rows(workitem_watch) == []
    with scene.peer("OTHER") as peer:  # of the same group
        assert act(peer, SUBSCRIBE, UID, "GROUPED") == 0x0000
    refused = [row.detail for row in scene.rows(notice) if row.what == "refused"]
    assert refused == ["subscription of GROUPED to workitems: Receiving AE is another device"]


def test_a_subscriber_that_may_not_use_workitems_any_more_is_told_nothing(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take())
    with scene.peer() as peer:
        act(peer, SUBSCRIBE, EVERY)
    callers = tuple(caller.model_copy(update={"services": ("store",)}) for caller in scene.config.ae.callers)
    ae = scene.config.ae.model_copy(update={"callers": callers})
    scene.events = WorkitemEvents(scene.config.model_copy(update={"ae": ae}), scene.node.engine)
    with watcher.listening():
        assert look(scene) == 0
    assert watcher.events == []
    assert "may not use workitems any more" in scene.rows(workitem_subscriber)[0].error
