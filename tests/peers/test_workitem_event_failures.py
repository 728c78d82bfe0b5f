"""UPS Event SOP Class with subscribers that hang, are slow, refuse, or subscribe again at a bad moment."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from pydicom import Dataset, config
from pydicom.dataelem import DataElement
from pynetdicom.sop_class import UnifiedProcedureStepPush, UnifiedProcedureStepWatch
from real_peers import free_port
from receivers import until
from ups_watcher import (
    ASSIGNED,
    CANCEL_REQUESTED,
    EVERY,
    MATCHING,
    SUBSCRIBE,
    UID,
    UNSUBSCRIBE,
    WATCHER,
    Watched,
    Watcher,
    act,
    create,
    look,
)
from workitem_scene import RULE, wanted

from node.config import Caller
from node.deliver import workitem_events
from node.deliver.association import Timeouts
from node.deliver.workitem_events import WorkitemEvents
from node.ledger.clock import clock_of
from node.ledger.states import JobStage, JobState
from node.ledger.tables import workitem_subscriber, workitem_watch


def cancel(scene: Watched, reason: str, uid: str = UID) -> None:
    """Ask for the cancellation of a workitem; the router is not there to do it."""
    why = Dataset()
    why.SpecificCharacterSet = "ISO_IR 192"
    why.add(DataElement("ReasonForCancellation", "LT", reason, validation_mode=config.IGNORE))
    with scene.peer("RIS", UnifiedProcedureStepWatch) as peer:
        assert peer.send_n_action(why, 2, UnifiedProcedureStepPush, uid)[0].Status == 0x0000


def add_silent_subscriber(scene: Watched, answer_seconds: float) -> socket.socket:
    """A subscriber that sorts first, whose port takes connections and never answers."""
    silent = socket.create_server(("127.0.0.1", free_port()))
    caller = Caller(title="AAA", host="127.0.0.1", port=silent.getsockname()[1])
    ae = scene.config.ae.model_copy(update={"callers": (caller, *scene.config.ae.callers)})
    scene.config = scene.config.model_copy(update={"ae": ae})
    scene.events = WorkitemEvents(scene.config, scene.node.engine, Timeouts(answer_seconds=answer_seconds))
    with scene.peer("AAA") as peer:
        assert act(peer, SUBSCRIBE, EVERY, "AAA") == 0x0000
    return silent


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


def test_a_subscriber_that_hangs_holds_up_no_other(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take())
    silent, stop = add_silent_subscriber(scene, answer_seconds=300.0), threading.Event()
    with scene.peer() as peer:
        act(peer, SUBSCRIBE, EVERY)
    sender = threading.Thread(target=scene.events.run, args=(stop,), daemon=True)
    with watcher.listening():
        sender.start()
        until(lambda: len(watcher.events) == 2, 60.0)
        assert watcher.told() == ["assigned to AINODE", "SCHEDULED"]
        create(scene, scene.take(), f"{UID}.1")
        until(lambda: len(watcher.events) == 2, 60.0)
    assert [(row.title, row.failures) for row in scene.rows(workitem_subscriber)] == [("AAA", 0), ("WATCHER", 0)]
    stop.set()
    silent.close()
    sender.join(60.0)
    assert not sender.is_alive()


def test_the_delay_after_a_subscriber_hung_begins_when_it_was_given_up(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take())
    with add_silent_subscriber(scene, answer_seconds=2.0):
        before = clock_of(scene.node.engine)
        assert look(scene) == 0
        (row,) = scene.rows(workitem_subscriber)
        assert (row.failures, row.due_at >= before + 2.0 + workitem_events.FIRST_RETRY_SECONDS) == (1, True)


def test_a_look_at_a_slow_subscriber_ends_and_the_next_one_goes_on(
    tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workitem_events, "BUDGET_SECONDS", 0.0)
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take(), *(f"{UID}.{number}" for number in range(3)))
    with scene.peer() as peer, watcher.listening():
        act(peer, SUBSCRIBE, EVERY)
        assert [look(scene) for _ in range(4)] == [2, 2, 2, 0]
        assert {uid for uid, _, _ in watcher.events} == {f"{UID}.{number}" for number in range(3)}
    assert scene.rows(workitem_subscriber)[0].failures == 0


@pytest.mark.parametrize("uid", ["", UID], ids=["of a rule", "requested"])
def test_an_analysis_that_is_begun_again_and_ends_while_its_subscriber_is_away_is_told_of(
    tmp_path: Path, watcher: Watcher, uid: str
) -> None:
    scene = Watched(tmp_path, watcher, "" if uid else RULE)
    series = scene.take()
    if uid:
        create(scene, series)
    scene.wait(11.0)
    (job,) = scene.jobs()
    with scene.peer() as peer:
        assert act(peer, SUBSCRIBE, uid or EVERY) == 0x0000
    scene.set_job(job.id, state=JobState.CANCELED)
    with watcher.listening():
        look(scene)
        assert watcher.told() == ["assigned to AINODE", "CANCELED"]
        scene.set_job(job.id, state=JobState.IN_PROGRESS)
        scene.set_job(job.id, stage=JobStage.DELIVER, state=JobState.COMPLETED, outcome="findings")
        watcher.refuses = {row.uid for row in scene.rows(workitem_watch)}
        look(scene)
        watcher.refuses.clear()
        assert scene.rows(workitem_watch)[0].reported_state == "CANCELED?"  # however long it is away
        look(scene, 6.0)
        assert watcher.told() == ["COMPLETED"]
        scene.set_job(job.id, outcome="findings")
        assert look(scene) == 0
    (row,) = scene.rows(workitem_watch)
    assert row.reported_state == "COMPLETED"


def test_a_subscriber_that_does_not_know_an_event_type_gets_the_others(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher, RULE)
    scene.take()
    scene.wait(11.0)
    with scene.peer() as peer:
        act(peer, SUBSCRIBE, EVERY)
    watcher.unknown_types = {ASSIGNED}
    with watcher.listening():
        look(scene)
        scene.set_job(scene.jobs()[0].id, state=JobState.IN_PROGRESS)
        look(scene)
    assert watcher.told() == ["SCHEDULED", "IN PROGRESS", "10 %"]


def test_every_request_for_cancellation_is_told_whatever_its_reason(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take())
    with scene.peer() as peer:
        act(peer, SUBSCRIBE, UID)
    for reason in ("理由", "x" * 20000, "x" * 20000):
        cancel(scene, reason)
    with watcher.listening():
        look(scene)
    told = [str(of.ReasonForCancellation) for _, kind, of in watcher.events if kind == CANCEL_REQUESTED]
    assert told == ["理由", f"{'x' * 4000} ... (16000 characters more)"]
    assert scene.rows(workitem_watch)[0].cancel is None


@pytest.mark.parametrize("keys", [{}, {"WorklistLabel": "Ni*"}], ids=["all", "matching"])
def test_a_subscriber_is_told_of_a_cancellation_that_came_before_the_first_look(
    tmp_path: Path, watcher: Watcher, keys: dict[str, str]
) -> None:
    scene = Watched(tmp_path, watcher)
    with scene.peer() as peer:
        assert act(peer, SUBSCRIBE, MATCHING if keys else EVERY, **keys) == 0x0000
        assert act(peer, SUBSCRIBE, MATCHING, "GROUPED", WorklistLabel="Day") == 0x0124
    with scene.peer("GROUPED") as peer:
        assert act(peer, SUBSCRIBE, MATCHING, "GROUPED", WorklistLabel="Day") == 0x0000
    create(scene, scene.take())
    cancel(scene, "wrong patient")
    assert [row.title for row in scene.rows(workitem_watch)] == [WATCHER]
    with watcher.listening():
        look(scene)
    assert watcher.told() == ["assigned to AINODE", "cancel requested by RIS", "SCHEDULED"]


def test_a_new_subscription_ends_the_delay_of_the_former_one(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take())
    with scene.peer() as peer:
        for uid in (EVERY, UID):
            act(peer, SUBSCRIBE, uid)
            look(scene)
            assert scene.rows(workitem_subscriber)[0].failures == 1
            act(peer, SUBSCRIBE, uid)
            (row,) = scene.rows(workitem_subscriber)
            assert (row.failures, row.error, row.due_at) == (0, "", 0.0)


@pytest.mark.parametrize("uid", [EVERY, UID], ids=["all", "one"])
def test_who_subscribes_again_while_it_is_told_is_told_again(tmp_path: Path, watcher: Watcher, uid: str) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take())
    with scene.peer() as peer, watcher.listening():
        act(peer, SUBSCRIBE, uid)
        watcher.on_report = lambda: act(peer, SUBSCRIBE, uid)
        look(scene)
        watcher.told()
        watcher.on_report = None
        look(scene)
    assert watcher.told() == ["assigned to AINODE", "SCHEDULED"]


def test_who_has_unsubscribed_from_its_last_workitem_is_no_subscriber(tmp_path: Path, watcher: Watcher) -> None:
    scene = Watched(tmp_path, watcher)
    create(scene, scene.take(), UID, f"{UID}.1")
    with scene.peer() as peer:
        for uid in (UID, f"{UID}.1"):
            act(peer, SUBSCRIBE, uid)
        act(peer, UNSUBSCRIBE, UID)
        assert len(scene.rows(workitem_subscriber)) == 1
        act(peer, UNSUBSCRIBE, f"{UID}.1")
    assert scene.rows(workitem_subscriber) == scene.rows(workitem_watch) == []


@pytest.mark.parametrize("uid", [EVERY, MATCHING])
def test_no_workitem_has_a_well_known_uid(tmp_path: Path, watcher: Watcher, uid: str) -> None:
    scene = Watched(tmp_path, watcher)
    series = scene.take()
    with scene.peer("RIS", UnifiedProcedureStepPush) as peer:
        answer, _ = peer.send_n_create(wanted(scene.study, series), UnifiedProcedureStepPush, uid)
        assert answer.Status == 0x0117
    with scene.serving() as http:
        assert http.post(f"/workitems?{uid}", content=wanted(scene.study, series).to_json()).status_code == 400
