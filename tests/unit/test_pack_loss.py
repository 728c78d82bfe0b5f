"""What a store has lost, another ledger shares, or an older ledger says costs no image that was acknowledged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ledgers import open_copy
from packed_series import STUDY, PackedSeries, open_scene

from node.errors import AbsentFileError, PlatformError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.retention import purge_study
from node.ledger.tables import pack, packed
from node.object_store import packing
from node.object_store.marks import discard_other_marks
from node.object_store.recovery import unknown_packs

CONTENTS = {f"1.1.1.{number}": bytes([number]) * 1000 for number in range(1, 5)}


@pytest.fixture
def scene(engine: sa.Engine, tmp_path: Path) -> PackedSeries:
    return open_scene(engine, tmp_path)


def contents(scene: PackedSeries, paths: list[str]) -> list[bytes]:
    return [file.read_bytes() for file in scene.spool.all_readable(paths)]


def test_the_last_copies_stay_when_their_pack_is_lost_and_are_packed_again(scene: PackedSeries) -> None:
    """As by a rule of the bucket that deletes what is old."""
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.packs()[0].unlink()
    assert scene.release() == 0
    assert contents(scene, paths) == list(CONTENTS.values())
    assert scene.pack() == 1
    assert scene.release() == len(paths)
    assert contents(scene, paths) == list(CONTENTS.values())


def test_an_image_that_comes_again_because_its_pack_is_lost_stays(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    scene.packs()[0].write_bytes(b"cut off")
    scene.receive(CONTENTS)
    assert scene.release() == 0
    assert contents(scene, paths) == list(CONTENTS.values())


def test_local_copies_stay_while_the_store_does_not_answer(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()

    def silent(*_of: object) -> Any:
        raise AbsentFileError("the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(scene.objects, "stream", silent)
        assert scene.release() == 0
    assert scene.release() == len(paths)


def test_a_store_that_is_another_one_is_an_outage_and_no_loss(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    scene.bucket.rename(scene.bucket.parent / "ours")
    scene.bucket.mkdir()
    with pytest.raises(AbsentFileError, match="nothing of this node"):
        scene.spool.all_readable(paths)
    with pytest.raises(AbsentFileError, match="nothing of this node"):
        scene.spool.tiers.sizes(paths)
    scene.bucket.rmdir()
    (scene.bucket.parent / "ours").rename(scene.bucket)
    assert contents(scene, paths) == list(CONTENTS.values())


def test_a_pack_of_two_ledgers_is_deleted_by_neither(
    scene: PackedSeries, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "other").mkdir()
    engine = open_copy(f"sqlite:///{tmp_path / 'other' / 'ledger.sqlite'}")
    other = open_scene(engine, tmp_path / "other", scene.objects)
    paths = scene.receive(CONTENTS)
    scene.pack()
    other.receive(CONTENTS)
    assert other.pack() == 1
    scene.release()
    with begin_immediate(engine) as connection:
        purge_study(connection, STUDY)
    assert other.deletion().look() == 0
    assert "also of another ledger" in caplog.text
    assert contents(scene, paths) == list(CONTENTS.values())
    discard_other_marks(engine, scene.objects)  # the operator says that the other one was lost
    assert other.deletion().look() == 1
    engine.dispose()


def test_an_older_ledger_deletes_no_pack_that_was_written_since(scene: PackedSeries) -> None:
    """When it was copied the study was purged; it came again, and was packed under the same name."""
    scene.receive(CONTENTS)
    scene.pack()
    (stored,) = scene.packs()
    with begin_immediate(scene.engine) as connection:
        purge_study(connection, STUDY)
        connection.execute(sa.update(pack).values(state="deleting", at=clock_of(scene.engine) - 86400))
    os.utime(stored)
    assert scene.deletion().look() == 0
    assert stored.exists()
    assert unknown_packs(scene.engine, scene.objects) == [f"packs/{stored.name}"]


def test_an_upload_of_long_ago_is_named_to_the_operator(scene: PackedSeries) -> None:
    """A ledger that was copied during the upload names its images, but not that they are packed."""
    scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    with begin_immediate(scene.engine) as connection:
        connection.execute(sa.delete(packed))
        connection.execute(sa.update(pack).values(state="writing", at=clock_of(scene.engine)))
    assert unknown_packs(scene.engine, scene.objects) == []
    with begin_immediate(scene.engine) as connection:
        connection.execute(sa.update(pack).values(at=0.0))
    assert len(unknown_packs(scene.engine, scene.objects)) == 1


def test_who_has_lost_his_claim_deletes_nothing(scene: PackedSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has verified the pack while this one stood still."""
    paths = scene.receive(CONTENTS)

    def verified_meanwhile(*_of: object) -> bool:
        monkeypatch.undo()
        with begin_immediate(scene.engine) as connection:
            connection.execute(sa.update(pack).values(at=0.0))
        scene.pack()
        return False

    monkeypatch.setattr(packing, "is_whole", verified_meanwhile)
    scene.pack()
    scene.release()
    assert contents(scene, paths) == list(CONTENTS.values())


def test_a_wrong_object_under_the_name_of_a_pack_is_replaced(scene: PackedSeries) -> None:
    """Of an upload that the store cut off, after which the process was killed."""
    scene.receive(CONTENTS)
    scene.pack()
    (stored,) = scene.packs()
    whole = stored.read_bytes()
    with begin_immediate(scene.engine) as connection:
        connection.execute(sa.delete(packed))
        connection.execute(sa.delete(pack))
        connection.execute(sa.text("UPDATE series SET packed_generation = NULL"))
    stored.write_bytes(whole[:500])
    assert scene.pack() == 0
    assert scene.pack() == 1
    assert stored.read_bytes() == whole


def test_the_last_copies_stay_when_their_pack_has_other_bytes_of_the_same_number(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    (stored,) = scene.packs()
    good = stored.read_bytes()
    stored.write_bytes(good.replace(b"\2\2\2\2", b"\2\3\2\2", 1))
    assert scene.release() == 0
    assert scene.pack() == 0  # the damaged one is deleted
    assert scene.pack() == 1
    assert stored.read_bytes() == good
    assert scene.release() == len(paths)
    assert contents(scene, paths) == list(CONTENTS.values())


def test_nothing_is_packed_into_a_store_that_does_not_have_the_mark_of_this_ledger(scene: PackedSeries) -> None:
    """It may be another bucket for a while; with a mark there, the packs of the right one would count as lost."""
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    scene.bucket.rename(scene.bucket.parent / "ours")
    scene.bucket.mkdir()
    scene.receive({"1.1.2.1": b"late"}, "1.1.2")
    assert scene.pack() == 0
    with pytest.raises(AbsentFileError, match="nothing of this node"):
        scene.spool.all_readable(paths)
    discard_other_marks(scene.engine, scene.objects)  # `ainode packs --recover`: the operator says that it is lost
    assert scene.pack() == 1
    with pytest.raises(PlatformError, match="any more"):
        scene.spool.all_readable(paths)
