"""A process that dies at any step of packing leaves local files or a verified pack, and the next one finishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from packed_series import STUDY, PackedSeries, open_scene

from node.errors import AbsentStoreError
from node.ledger.engine import begin_immediate
from node.ledger.packs import count_packs
from node.ledger.retention import purge_study
from node.ledger.tables import instance, pack, packed
from node.membership import Membership, new_member
from node.object_store import deletion, local_copies, packing

CONTENTS = {f"1.1.1.{number}": bytes([number]) * 1000 for number in range(1, 5)}


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it runs, no handler either."""


@pytest.fixture
def scene(engine: sa.Engine, tmp_path: Path) -> PackedSeries:
    return open_scene(engine, tmp_path)


def killed(*_arguments: object, **_named: object) -> Any:
    raise KilledError


def after(call: Callable[..., Any]) -> Callable[..., Any]:
    def then_killed(*arguments: object, **named: object) -> Any:
        call(*arguments, **named)
        raise KilledError

    return then_killed


def all_are_readable(scene: PackedSeries, paths: list[str]) -> bool:
    return [file.read_bytes() for file in scene.spool.all_readable(paths)] == list(CONTENTS.values())


def make_claims_stale(scene: PackedSeries) -> None:
    with begin_immediate(scene.engine) as connection:
        connection.execute(sa.update(pack).where(pack.c.state == "writing").values(at=0.0))


@pytest.mark.parametrize(
    ("module", "name", "when"),
    [
        (packing, "write_pack", "before"),
        (packing, "write_pack", "after"),
        (packing, "claim_pack", "before"),
        (packing, "claim_pack", "after"),
        ("objects", "put_new", "before"),
        ("objects", "put_new", "after"),
        (packing, "is_whole", "before"),
        (packing, "is_whole", "after"),
        (packing, "remote_index", "after"),
        (packing, "record_pack", "before"),
        (packing, "record_pack", "after"),
        (packing, "end_packing", "before"),
        (packing, "end_packing", "after"),
    ],
)
def test_packing_that_is_killed_loses_nothing_and_is_finished_later(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, when: str
) -> None:
    paths = scene.receive(CONTENTS)
    place = scene.objects if module == "objects" else module
    original = getattr(place, name)
    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed if when == "before" else after(original))
        with pytest.raises(KilledError):
            scene.pack()
    scene.release()
    assert all_are_readable(scene, paths)
    make_claims_stale(scene)
    scene.pack()
    assert scene.release() in (len(paths), 0)
    assert not any(scene.spool.absolute(path).exists() for path in paths)
    assert all_are_readable(scene, paths)
    assert len(scene.packs()) == 1


def test_the_claim_of_a_process_is_taken_over_when_it_is_old_or_the_process_has_died(scene: PackedSeries) -> None:
    membership = Membership(scene.engine, replace(new_member("router"), id=scene.spool.drafts.writer))
    for ends in (lambda: make_claims_stale(scene), membership.leave):
        membership.begin()
        scene.receive({f"1.1.1.{len(scene.packs())}": b"an image"})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(scene.objects, "put_new", killed)
            with pytest.raises(KilledError):
                scene.pack()
        assert scene.pack() == 0
        ends()
        assert scene.pack() == 1


@pytest.mark.parametrize("step", ["purge", "end_purge"])
def test_release_that_is_killed_leaves_every_image_readable(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    with monkeypatch.context() as patched:
        if step == "purge":

            def first(paths: Iterable[str], **_named: object) -> None:
                scene.spool.absolute(next(iter(paths))).unlink()

            patched.setattr(scene.spool, "purge", after(first))
        else:
            patched.setattr(local_copies, "begin_immediate", killed)
        with pytest.raises(KilledError):
            scene.release()
    assert all_are_readable(scene, paths)
    scene.release()
    assert all_are_readable(scene, paths)


def test_a_folder_whose_files_were_all_deleted_by_a_process_that_was_killed_goes(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    for path in paths:
        scene.spool.absolute(path).unlink()
    scene.release()
    assert not scene.spool.absolute(paths[0]).parent.exists()
    assert all_are_readable(scene, paths)


@pytest.mark.parametrize(("name", "when"), [("begin_deletion", "after"), ("end_deletion", "before")])
def test_deletion_that_is_killed_is_finished_and_meets_no_new_upload(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    scene.receive(CONTENTS)
    scene.pack()
    with begin_immediate(scene.engine) as connection:
        purge_study(connection, STUDY)
    for sop in CONTENTS:
        scene.spool.absolute(f"incoming/{STUDY}/1.1.1/{sop}.dcm").unlink()
    with monkeypatch.context() as patched:
        original = getattr(deletion, name)
        patched.setattr(deletion, name, killed if when == "before" else after(original))
        with pytest.raises(KilledError):
            scene.deletion().look()
        if (name, when) == ("begin_deletion", "after"):  # rolled back with its transaction
            patched.undo()
            patched.setattr(scene.objects, "delete", killed)
            with pytest.raises(KilledError):
                scene.deletion().look()
    paths = scene.receive(CONTENTS)  # the same study again: its pack would have the name of the one that goes
    assert scene.pack() == 0
    assert scene.deletion().look() == 1
    assert scene.pack() == 1
    scene.release()
    assert all_are_readable(scene, paths)


def test_an_upload_that_was_cut_off_is_deleted_after_a_day_when_nothing_needs_it(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.receive(CONTENTS)
    with monkeypatch.context() as patched:
        patched.setattr(packing, "is_whole", killed)
        with pytest.raises(KilledError):
            scene.pack()
    assert scene.deletion().look() == 0  # not old
    make_claims_stale(scene)
    late = scene.receive({"1.1.1.9": b"late"})
    scene.pack()  # of the five images: a pack of another name
    assert len(scene.packs()) == 2
    assert scene.deletion().look() == 1
    assert len(scene.packs()) == 1
    scene.release()
    assert scene.spool.readable(late[0]).read_bytes() == b"late"


def test_an_upload_with_the_only_copy_of_an_image_stays(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger that was restored from a copy made during the upload, after the local files have gone."""
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    with begin_immediate(scene.engine) as connection:
        connection.execute(sa.delete(packed))
        connection.execute(sa.update(pack).values(state="writing", at=0.0))
    assert scene.deletion().look() == 0
    assert "has the only copy" in caplog.text
    assert len(scene.packs()) == 1
    with scene.engine.connect() as connection:
        assert len(connection.execute(sa.select(instance)).all()) == len(paths)


def test_objects_that_the_ledger_does_not_know_are_never_deleted(scene: PackedSeries) -> None:
    scene.receive(CONTENTS)
    foreign = scene.bucket / "packs" / f"{'0' * 64}.zip"
    foreign.parent.mkdir()
    foreign.write_bytes(b"of another node, or of a ledger that is lost")
    scene.pack()
    make_claims_stale(scene)
    assert scene.deletion().look() == 0
    assert foreign.exists()


def test_a_store_that_does_not_answer_loses_nothing_and_is_reported(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = scene.receive(CONTENTS)

    def silent(*_of: object) -> Any:
        raise AbsentStoreError("the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(scene.objects, "put_new", silent)
        assert scene.pack() == 0
        with scene.engine.connect() as connection:
            counts = count_packs(connection)
        assert (counts.failing, counts.error) == (1, "the store does not answer")
        for name in ("names", "size", "stream", "read"):
            patched.setattr(scene.objects, name, silent)
        assert scene.pack() == 0
        assert scene.release() == 0
    assert scene.pack() == 1  # at once: an attempt that failed is no claim
    scene.release()
    with monkeypatch.context() as patched:
        patched.setattr(scene.objects, "read", silent)
        with pytest.raises(AbsentStoreError):
            scene.spool.all_readable(paths)
    assert all_are_readable(scene, paths)
