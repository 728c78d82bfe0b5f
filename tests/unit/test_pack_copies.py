"""Packs count as copies: verification asks the store, a lost machine costs no packed image, an alert names a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from packed_series import STUDY, PackedSeries, open_scene

from node.config import parse
from node.errors import AbsentStoreError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.holdings import record_holdings
from node.ledger.missing_copies import count_missing_copies, lose_machine
from node.ledger.retention import purge_study
from node.operate.object_store_alerts import object_store_alerts
from node.operate.verify import verify
from node.operate.verify_copies import verify_copies

CONTENTS = {f"1.1.1.{number}": bytes([number]) * 1000 for number in range(1, 4)}


@pytest.fixture
def scene(engine: sa.Engine, tmp_path: Path) -> PackedSeries:
    packed = open_scene(engine, tmp_path)
    packed.receive(CONTENTS)
    return packed


def silent(*_of: object) -> Any:
    raise AbsentStoreError("the store does not answer")


def test_verification_asks_the_store_for_packs(scene: PackedSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.pack()
    scene.release()
    with monkeypatch.context() as patched:
        patched.setattr(scene.objects, "size", silent)
        assert len(verify(scene.engine, scene.spool, clock_of(scene.engine)).unreachable) == 3
    monkeypatch.setattr("node.object_store.packed_reader._ASKED_SECONDS", -1.0)
    scene = open_scene(scene.engine, scene.bucket.parent, scene.objects)
    good = verify(scene.engine, scene.spool, clock_of(scene.engine))
    assert (good.faults, good.elsewhere) == (0, 3)
    scene.packs()[0].unlink()
    assert len(verify(scene.engine, scene.spool, clock_of(scene.engine)).missing) == 3


def test_verification_of_copies_reads_packs(scene: PackedSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.pack()
    both = verify_copies(scene.engine, scene.spool)
    assert (both.copies, both.faults) == ({2: 3}, 0)
    scene.release()
    with monkeypatch.context() as patched:
        patched.setattr("node.spool.Spool.copies", 2)
        single = verify_copies(scene.engine, scene.spool)
    assert (single.copies, single.faults) == ({1: 3}, 0)  # the store replaces both copies
    (stored,) = scene.packs()
    stored.write_bytes(stored.read_bytes().replace(b"\2\2\2", b"\2\3\2", 1))
    damaged = verify_copies(scene.engine, scene.spool)
    assert [entry.split()[-1] for entry in damaged.corrupt] == list(damaged.missing)
    monkeypatch.setattr(scene.objects, "stream", silent)
    assert verify_copies(scene.engine, scene.spool).unreachable == ("object store",)


def test_a_lost_machine_costs_no_image_that_is_packed(scene: PackedSeries) -> None:
    scene.receive({"1.1.2.1": b"another series"}, "1.1.2")
    for uid in ("1.1.1", "1.1.2"):
        with begin_immediate(scene.engine) as connection:
            record_holdings(connection, "gone", [f"incoming/1.1/{uid}"])
    scene.pack()
    scene.receive({"1.1.3.1": b"unpacked"}, "1.1.3")
    with begin_immediate(scene.engine) as connection:
        record_holdings(connection, "gone", ["incoming/1.1/1.1.3"])
        assert lose_machine(connection, "gone") == ["incoming/1.1/1.1.3"]
        assert count_missing_copies(connection).files == 1


def test_a_series_that_cannot_be_packed_is_an_alert(scene: PackedSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse('[storage.object_store]\nurl = "s3://bucket/site"\n')
    with monkeypatch.context() as patched:
        patched.setattr(scene.objects, "put_new", silent)
        scene.pack()
        with scene.engine.connect() as connection:
            (alert,) = object_store_alerts(config, connection, clock_of(scene.engine)).values()
        assert "the store does not answer" in alert
    scene.pack()
    with scene.engine.connect() as connection:
        assert object_store_alerts(config, connection, clock_of(scene.engine)) == {}


def test_the_alert_ends_when_a_late_image_makes_another_pack_or_the_study_is_purged(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse('[storage.object_store]\nurl = "s3://bucket/site"\n')

    def alerts() -> dict[str, str]:
        with scene.engine.connect() as connection:
            return object_store_alerts(config, connection, clock_of(scene.engine))

    with monkeypatch.context() as patched:
        patched.setattr(scene.objects, "put_new", silent)
        scene.pack()
    assert "1 series" in alerts()["object store"]
    scene.receive({"1.1.1.9": b"late"})
    assert scene.pack() == 1
    assert alerts() == {}
    scene.receive({"1.1.2.1": b"another series"}, "1.1.2")
    with monkeypatch.context() as patched:
        patched.setattr(scene.objects, "put_new", silent)
        scene.pack()
    assert "1 series" in alerts()["object store"]
    with begin_immediate(scene.engine) as connection:
        purge_study(connection, STUDY)
    assert alerts() == {}
