"""What an outage of the object store costs: nobody waits for it twice, an alarm says why, and its end ends that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from packed_series import STOP, STUDY, PackedSeries, open_scene
from s3_server import PROGRAM, Proxy, impatient, proxied_server, store_table

from node.config import ObjectStoreTable, parse
from node.errors import AbsentStoreError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.retention import purge_study
from node.ledger.tables import pack
from node.membership import Membership, new_member
from node.object_store import packed_reader, packing, store
from node.object_store.store import Objects, open_objects
from node.operate.object_store_alerts import object_store_alerts
from node.spool.machine import machine_id

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="make build/s3-server has not been run")

CONTENTS = {f"1.1.1.{number}": bytes([number]) * 20_000 for number in range(1, 4)}
CONFIG = parse('[storage.object_store]\nurl = "s3://bucket/site"\n')


@pytest.fixture(scope="module")
def server() -> Iterator[Proxy]:
    with proxied_server() as proxy:
        yield proxy


@pytest.fixture
def objects(server: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    monkeypatch.setattr(store, "_RETRIES", 0)
    prefix = tmp_path.name.replace("[", "-").replace("]", "")
    yield open_objects(ObjectStoreTable(**store_table(server.url, prefix, tmp_path)))
    server.fault = ""


@pytest.fixture
def scene(engine: sa.Engine, tmp_path: Path, objects: Objects) -> PackedSeries:
    return open_scene(engine, tmp_path, objects)


def alert(scene: PackedSeries, hours: float = 0.1) -> str:
    """The alert about the store after some hours; "": none."""
    with scene.engine.connect() as connection:
        return object_store_alerts(CONFIG, connection, clock_of(scene.engine) + hours * 3600).get("object store", "")


def asked(server: Proxy, *methods: str) -> list[str]:
    """Requests about packs since the last call of this."""
    requests = [of for of in server.requests if "/packs/" in of and of.partition(" ")[0] in methods]
    server.requests.clear()
    return requests


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("stall", "too slow"), ("skew", "RequestTimeTooSkewed"), ("forbid", "AccessDenied"), ("busy", "SlowDown")],
)
def test_a_store_that_is_away_raises_one_alarm_with_the_reason_which_its_return_ends(
    scene: PackedSeries, server: Proxy, fault: str, reason: str
) -> None:
    membership = Membership(scene.engine, replace(new_member("router"), machine=machine_id(scene.spool.folder)))
    membership.begin()
    packing_process = scene.packing()
    server.fault = fault
    with impatient():
        for _ in range(2):  # with nothing to pack: analyses may need it
            packing_process.look(STOP)
    assert alert(scene, hours=0.0) == ""
    assert reason in alert(scene)
    assert "ainode doctor" in alert(scene)
    server.fault = ""
    packing_process.look(STOP)
    assert alert(scene) == ""
    server.fault = fault
    with impatient():
        packing_process.look(STOP)
    membership.leave()
    assert alert(scene) == "", "a machine that is switched off sees nothing"


def test_a_store_that_is_away_costs_no_draft_of_a_pack(
    scene: PackedSeries, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of half a gigabyte each, every minute, on the disk that receives."""
    scene.receive(CONTENTS)
    monkeypatch.setattr(packing, "write_pack", lambda *_of: pytest.fail("a pack was written to the disk"))
    server.fault = "stall"
    with impatient():
        assert scene.pack() == 0


def test_a_store_that_refuses_to_write_is_asked_for_one_series_and_then_after_a_pause(
    scene: PackedSeries, server: Proxy
) -> None:
    for number in range(1, 4):
        scene.receive({f"1.1.{number}.1": b"an image"}, f"1.1.{number}")
    packing_process = scene.packing()
    server.fault = "forbid PUT"
    asked(server)
    for _ in range(3):
        assert packing_process.look(STOP) == 0
    assert len(asked(server, "PUT")) == 1
    assert "AccessDenied" in alert(scene, hours=24.0)
    server.fault = ""
    assert scene.pack() == 3
    assert alert(scene, hours=24.0) == ""


def test_a_series_that_the_store_alters_keeps_no_other_from_it(scene: PackedSeries, server: Proxy) -> None:
    scene.receive(CONTENTS)
    packing_process = scene.packing()
    server.fault = "alter"
    for _ in range(3):
        assert packing_process.look(STOP) == 0
    server.fault = ""
    scene.receive({"1.1.2.1": b"an image"}, "1.1.2", at=clock_of(scene.engine))
    asked(server)
    assert packing_process.look(STOP) == 1
    assert len(asked(server, "PUT")) == 1, "that series is not sent every minute"
    assert scene.pack() == 1


def test_what_was_waited_for_in_vain_is_not_waited_for_again_at_once(
    scene: PackedSeries, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router has one thread for all series: one that needs its pack must not hold up the others again and again."""
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    monkeypatch.setattr(packed_reader, "_LONG_SECONDS", 0.1)
    server.fault = "stall"
    with impatient(), pytest.raises(AbsentStoreError):
        scene.spool.all_readable(paths)
    asked(server)
    for _ in range(3):
        with pytest.raises(AbsentStoreError, match="too slow"):
            scene.spool.all_readable(paths)
        with pytest.raises(AbsentStoreError, match="too slow"):
            scene.spool.stored_size(paths[0])
    assert asked(server, "GET", "HEAD") == []


@pytest.mark.parametrize("fault", ["stall POST", "slow POST", "forbid POST", "stall"])
def test_a_pack_that_cannot_be_deleted_yet_is_deleted_later(scene: PackedSeries, server: Proxy, fault: str) -> None:
    scene.receive(CONTENTS)
    scene.pack()
    with begin_immediate(scene.engine) as connection:
        purge_study(connection, STUDY)
    server.fault = fault
    with impatient():
        assert scene.deletion().look() == 0
    with scene.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(pack)) == 1
    server.fault = ""
    assert scene.deletion().look() == 1
    assert list(scene.objects.names("packs")) == []
