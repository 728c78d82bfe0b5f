"""UPS-RS subscriptions, with the client of the package websockets as subscriber: who is told of what, and when not."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from receivers import until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from workitem_scene import RULE, TOKENS, WorkitemScene, wanted

from node.deliver.workitem_events import WorkitemEvents
from node.dicomweb.event_channel import EventChannel, Intervals
from node.ledger.clock import clock_of
from node.ledger.states import JobStage, JobState
from node.ledger.tables import notice, workitem_subscriber, workitem_watch

UID = "1.2.826.0.1.3680043.8.498.9"
EVERY, MATCHING = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"
QUICK = Intervals(look=0.02, answer=20.0, idle=20.0)


class Listened(WorkitemScene):
    """A scene whose subscribers listen on WebSockets; what a sender finds, it finds by hand."""

    def __init__(self, folder: Path, rules: str = "") -> None:
        super().__init__(folder, rules)
        self.events = WorkitemEvents(self.config, self.node.engine)

    def look(self) -> None:
        """Find what is new to subscribers, as a sender does every 2 s; it sends nothing itself."""
        assert self.events.step(clock_of(self.node.engine)) == 0

    @contextmanager
    def listening(self, title: str = "WATCHER", token: str = TOKENS["watcher"], **settings: Any) -> Iterator[Any]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        url = f"ws://127.0.0.1:{self.port}/subscribers/{title}"
        with connect(url, additional_headers=headers, proxy=None, **settings) as channel:
            yield channel


@pytest.fixture
def scene(tmp_path: Path) -> WorkitemScene:
    return Listened(tmp_path, RULE)


def subscriber(uid: str = EVERY, title: str = "WATCHER") -> str:
    return f"/workitems/{uid}/subscribers/{title}"


def word(message: str) -> str:
    """An event in short."""
    event = json.loads(message)
    assert event["00000002"] == {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.34.6.1"]}
    assert event["00000110"]["vr"] == event["00001002"]["vr"] == "US"
    match event["00001002"]["Value"]:
        case [1]:
            return str(event["00741000"]["Value"][0])
        case [2]:
            return f"cancel requested by {event['00741236']['Value'][0]}"
        case [3]:
            return f"{event['00741002']['Value'][0]['00741004']['Value'][0]:g} %"
        case [5]:
            return "assigned"
    return message


def heard(channel: ClientConnection, number: int) -> list[str]:
    """The next events in short."""
    return [word(channel.recv(timeout=30.0)) for _ in range(number)]


def third_party() -> Any:
    """The client of https://github.com/sjswerdloff/dicom-ups-rs-client, where it is installed."""
    sys.path.extend(filter(None, os.environ.get("AINODE_UPS_PEERS", "").split(":")))
    return pytest.importorskip("dicom_ups_rs_client", reason="dicom-ups-rs-client is not installed")


def recorded(scene: WorkitemScene, state: str) -> bool:
    return [row.reported_state for row in scene.rows(workitem_watch) if row.subscribed] == [state]


def test_a_subscriber_of_all_hears_of_state_progress_and_end_of_every_workitem(scene: Listened) -> None:
    scene.take()
    scene.wait(11.0)
    (job,) = scene.jobs()
    with scene.serving("watcher", QUICK) as http, scene.listening() as channel:
        answer = http.post(subscriber())
        assert (answer.status_code, answer.text) == (201, "")
        assert answer.headers["content-location"] == f"ws://127.0.0.1:{scene.port}/subscribers/WATCHER"
        assert "warning" not in answer.headers
        scene.look()
        assert heard(channel, 2) == ["assigned", "SCHEDULED"]
        scene.set_job(job.id, state=JobState.IN_PROGRESS)
        assert heard(channel, 2) == ["IN PROGRESS", "10 %"]
        scene.set_job(job.id, stage=JobStage.DELIVER, state=JobState.COMPLETED, outcome="findings")
        assert heard(channel, 1) == ["COMPLETED"]
        until(lambda: recorded(scene, "COMPLETED"))
        assert http.request("DELETE", subscriber()).status_code == 200
    assert scene.rows(workitem_subscriber) == scene.rows(workitem_watch) == []
    acts = [row.detail for row in scene.rows(notice) if row.who == "watcher"]
    assert acts == ["subscribed WATCHER: all workitems", "unsubscribed WATCHER: all workitems"]


def test_a_subscriber_that_was_away_hears_what_it_missed_and_nothing_twice(scene: Listened) -> None:
    scene.take()
    scene.wait(11.0)
    (job,) = scene.jobs()
    with scene.serving("watcher", QUICK) as http:
        assert http.post(subscriber()).status_code == 201
        scene.look()
        with scene.listening() as channel:
            assert heard(channel, 2) == ["assigned", "SCHEDULED"]
            until(lambda: recorded(scene, "SCHEDULED"))
        scene.set_job(job.id, stage=JobStage.DELIVER, state=JobState.COMPLETED, outcome="findings")
    with scene.serving("watcher", QUICK) as http, scene.listening() as channel:
        assert heard(channel, 2) == ["IN PROGRESS", "COMPLETED"]


def test_what_a_client_did_not_confirm_is_sent_on_its_next_connection(scene: Listened) -> None:
    scene.take()
    scene.wait(11.0)
    with scene.serving("watcher", Intervals(look=0.02, answer=0.5)) as http:
        http.post(subscriber())
        scene.look()
        with silent(scene) as deaf:
            until(lambda: b"SCHEDULED" in deaf.recv(65536, socket.MSG_PEEK))
            assert recorded(scene, "")
            until(lambda: is_closed(deaf))
        with scene.listening() as channel:
            assert heard(channel, 2) == ["assigned", "SCHEDULED"]


@contextmanager
def silent(scene: WorkitemScene) -> Iterator[socket.socket]:
    """A client that opens a WebSocket and answers nothing on it."""
    with socket.create_connection(("127.0.0.1", scene.port)) as deaf:
        lines = [
            "GET /subscribers/WATCHER HTTP/1.1",
            f"Host: 127.0.0.1:{scene.port}",
            f"Authorization: Bearer {TOKENS['watcher']}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==",
            "Sec-WebSocket-Version: 13",
        ]
        deaf.sendall("\r\n".join([*lines, "", ""]).encode())
        deaf.settimeout(30.0)
        yield deaf


def is_closed(deaf: socket.socket) -> bool:
    try:
        return not deaf.recv(65536)
    except ConnectionResetError:
        return True


def test_a_client_that_is_silent_is_disconnected_and_holds_up_nobody(scene: Listened) -> None:
    with scene.serving("watcher", Intervals(look=0.02, answer=0.2, idle=0.1)) as http, silent(scene) as deaf:
        assert deaf.recv(12) == b"HTTP/1.1 101"
        began = time.monotonic()
        assert http.get("/workitems").status_code == 204
        until(lambda: is_closed(deaf))
        assert time.monotonic() - began < 20.0


def test_a_new_connection_takes_the_place_of_the_former_one(scene: Listened) -> None:
    scene.take()
    scene.wait(11.0)
    with scene.serving("watcher", QUICK) as http, scene.listening() as former, scene.listening() as channel:
        with pytest.raises(ConnectionClosed) as closed:
            former.recv(timeout=30.0)
        assert "another connection" in str(closed.value)
        http.post(subscriber())
        scene.look()
        assert heard(channel, 2) == ["assigned", "SCHEDULED"]


def test_connections_are_closed_when_the_service_stops(scene: Listened) -> None:
    with ExitStack() as connections:
        with scene.serving("watcher", QUICK):
            channel = connections.enter_context(scene.listening())
        with pytest.raises(ConnectionClosed) as closed:
            channel.recv(timeout=30.0)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


def test_a_client_whose_token_was_renewed_is_disconnected(scene: Listened, tmp_path: Path) -> None:
    intervals = Intervals(look=0.02, answer=20.0, idle=0.05)
    with scene.serving("watcher", intervals), scene.listening() as channel:
        (tmp_path / "watcher").write_text("n" * 32)
        with pytest.raises(ConnectionClosed) as closed:
            channel.recv(timeout=30.0)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_a_client_whose_token_was_renewed_is_disconnected_amid_events_too(
    scene: Listened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(_channel: EventChannel) -> int:
        await anyio.sleep(0.01)
        return 1

    monkeypatch.setattr(EventChannel, "_report_portion", tell)
    with scene.serving("watcher", Intervals(look=0.02, answer=20.0, idle=0.1)), scene.listening() as channel:
        (tmp_path / "watcher").write_text("n" * 32)
        with pytest.raises(ConnectionClosed) as closed:
            channel.recv(timeout=15.0)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


@pytest.mark.parametrize(
    ("title", "token", "origin", "status"),
    [
        ("WATCHER", "", None, 401),
        ("WATCHER", TOKENS["viewer"], None, 403),
        ("RIS", TOKENS["watcher"], None, 403),
        ("WATCHER", TOKENS["watcher"], "https://evil.example", 403),
        ("WATCHER", TOKENS["watcher"], "null", 403),
        ("SEVENTEEN-LETTERS", TOKENS["watcher"], None, 400),
    ],
)
def test_who_opens_no_connection(scene: Listened, title: str, token: str, origin: Any, status: int) -> None:
    with scene.serving("watcher", QUICK):
        with pytest.raises(InvalidStatus) as refused, scene.listening(title, token, origin=origin):
            pass
        assert refused.value.response.status_code == status
        with scene.listening(origin=f"http://127.0.0.1:{scene.port}"):
            pass


def test_a_client_that_sends_much_is_disconnected(scene: Listened) -> None:
    with scene.serving("watcher", QUICK), scene.listening() as channel:
        channel.send("x" * 4096)  # is not regarded
        channel.ping().wait(30.0)
        channel.send("x" * 100_000)
        with pytest.raises(ConnectionClosed) as closed:
            channel.recv(timeout=30.0)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", subscriber("1.2.3"), {}, 404),
        ("DELETE", subscriber("1.2.3"), {}, 404),
        ("POST", subscriber(title="RIS"), {}, 403),
        ("POST", subscriber(title="SEVENTEEN-LETTERS"), {}, 400),
        ("POST", subscriber(), {"origin": "https://evil.example"}, 403),
        ("POST", f"{subscriber('1.2.3')}/suspend", {}, 400),
        ("POST", f"{subscriber()}?deletionlock=yes", {}, 400),
        ("POST", f"{subscriber()}?filter=WorklistLabel=Night", {}, 400),
        ("POST", subscriber(MATCHING), {}, 400),
        ("POST", f"{subscriber(MATCHING)}?filter=WorklistLabel", {}, 400),
        ("POST", f"{subscriber(MATCHING)}?filter=PatientID=PAT1", {}, 400),
        ("POST", f"{subscriber(MATCHING)}?filter=Allergies=x", {}, 400),
        ("GET", "/subscribers/WATCHER", {}, 426),
    ],
)
def test_what_is_no_subscription_is_refused_and_kept_nowhere(
    scene: Listened, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    with scene.serving("watcher", QUICK) as http:
        answer = http.request(method, path, headers=headers)
        assert (answer.status_code, bool(answer.text)) == (status, True), answer.text
        assert httpx.request(method, f"{scene.url}{path}").status_code == (426 if method == "GET" else 401)
    assert scene.rows(workitem_subscriber) == []


def test_a_filtered_subscription_over_http_is_of_matching_workitems_only(scene: Listened) -> None:
    series = scene.take()
    scene.wait(11.0)
    ris = {"authorization": f"Bearer {TOKENS['ris']}"}
    keys = f"InputInformationSequence.StudyInstanceUID=1.2.3,{scene.study},WorklistLabel=Ni*"
    with scene.serving("watcher", QUICK) as http, scene.listening() as channel:
        assert http.post(subscriber(MATCHING), params={"filter": keys}).status_code == 201
        step = wanted(scene.study, series).to_json()
        assert http.post(f"/workitems?{UID}", content=step, headers=ris).status_code == 201
        scene.look()
        first = channel.recv(timeout=30.0)
        assert json.loads(first)["00001000"]["Value"] == [UID]
        assert [word(first), *heard(channel, 1)] == ["assigned", "SCHEDULED"]
        assert http.post(f"/workitems/{UID}/cancelrequest", content="{}", headers=ris).status_code == 202
        assert heard(channel, 3) == ["cancel requested by ris", "IN PROGRESS", "CANCELED"]
        assert http.post(f"{subscriber(MATCHING)}/suspend").status_code == 200
    (row,) = scene.rows(workitem_subscriber)
    assert (row.matching_since, row.websocket) == (None, True)


def test_a_subscriber_of_one_workitem_hears_of_no_other_until_it_unsubscribes(scene: Listened) -> None:
    series = scene.take()
    scene.wait(11.0)
    (job,) = scene.jobs()
    ris = {"authorization": f"Bearer {TOKENS['ris']}"}
    with scene.serving("watcher", QUICK) as http, scene.listening() as channel:
        http.post(f"/workitems?{UID}", content=wanted(scene.study, series).to_json(), headers=ris)
        assert http.post(subscriber(UID)).status_code == 201
        assert heard(channel, 2) == ["assigned", "SCHEDULED"]
        scene.look()
        scene.set_job(job.id, state=JobState.IN_PROGRESS)
        assert http.request("DELETE", subscriber(UID)).status_code == 200
    assert scene.rows(workitem_watch) == []


def test_a_lock_over_http_is_granted_to_what_is_new_too(scene: Listened) -> None:
    scene.take()
    with scene.serving("watcher", QUICK) as http:
        answer = http.post(f"{subscriber()}?deletionlock=true")
        assert (answer.status_code, "warning" in answer.headers) == (201, False)
        scene.wait(11.0)
        scene.look()
        (row,) = scene.rows(workitem_watch)
        assert row.locked
        assert http.post(subscriber()).status_code == 201  # is no unlocking
        assert [row.locked for row in scene.rows(workitem_watch)] == [True]
        assert http.post(subscriber(row.uid)).status_code == 201
        assert [row.locked for row in scene.rows(workitem_watch)] == [False]


def test_a_client_that_others_wrote_subscribes_and_is_told(scene: Listened) -> None:
    peer = third_party()
    series = scene.take()
    scene.wait(11.0)
    own = f"ws://watcher:{TOKENS['watcher']}@127.0.0.1:{scene.port}/subscribers/{{aetitle}}"
    with scene.serving("ris", QUICK) as http:
        client = peer.UPSRSClient(scene.url, aetitle="WATCHER", websocket_url_override=own)
        client.session.headers["authorization"] = f"Bearer {TOKENS['watcher']}"
        done, answer = client.subscribe_to_filtered_worklist({"WorklistLabel": "Night"}, deletion_lock=False)
        assert done, answer
        assert answer["content_location"] == f"ws://127.0.0.1:{scene.port}/subscribers/WATCHER"
        events: list[Any] = []
        assert client.connect_websocket(events.append)
        assert http.post(f"/workitems?{UID}", content=wanted(scene.study, series).to_json()).status_code == 201
        scene.look()
        until(lambda: [word(json.dumps(event)) for event in events] == ["assigned", "SCHEDULED"])
        client.running = False
        assert client.unsubscribe_from_filtered_worklist({"WorklistLabel": "Night"})[0]
    assert scene.rows(workitem_subscriber) == []
