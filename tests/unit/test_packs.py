"""A complete series becomes a pack; local copies go after it was read back, and every image stays readable."""

from __future__ import annotations

import zipfile
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from packed_series import SERIES, STUDY, PackedSeries, open_scene

from node.errors import AbsentFileError, PlatformError
from node.ledger.engine import begin_immediate
from node.ledger.holdings import recorded_files
from node.ledger.retention import locked_study, purge_study
from node.ledger.tables import conflict, instance, pack, packed, series
from node.spool import digest_of
from node.spool.tiers import OBJECT_STORE

CONTENTS = {f"1.1.1.{number}": bytes([number]) * (1000 + number) for number in range(1, 6)}


@pytest.fixture
def scene(engine: sa.Engine, tmp_path: Path) -> PackedSeries:
    return open_scene(engine, tmp_path)


def contents(scene: PackedSeries, paths: list[str]) -> list[bytes]:
    return [file.read_bytes() for file in scene.spool.all_readable(paths)]


@postgres.BOTH
def test_a_complete_series_is_packed_once_and_read_back_from_the_store(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    assert scene.pack() == 1
    assert scene.pack() == 0
    (stored,) = scene.packs()
    with stored.open("rb") as file:
        assert stored.stem == digest_of(file).removeprefix("blake3:")
    with zipfile.ZipFile(stored) as archive:
        assert archive.testzip() is None
        assert {member.filename: member.compress_type for member in archive.infolist()} == dict.fromkeys(paths, 0)
    assert scene.release() == len(paths)
    assert not any(scene.spool.absolute(path).exists() for path in paths)
    assert contents(scene, paths) == list(CONTENTS.values())
    assert scene.spool.stored_size(paths[0]) == 1001
    assert scene.spool.tiers.sizes(paths) == {path: len(of) for path, of in zip(paths, CONTENTS.values(), strict=True)}


def test_local_copies_stay_until_they_are_old_enough(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    assert scene.release(30) == 0  # no pack
    scene.pack()
    assert scene.release(6) == 0
    assert scene.release(8) == len(paths)


def test_the_log_of_a_study_stays_with_its_pack_and_goes_with_retention(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    assert scene.spool.holds_study(STUDY)
    scene.spool.purge(paths)
    assert not scene.spool.holds_study(STUDY)


def test_local_copies_go_earlier_when_space_is_scarce(engine: sa.Engine, tmp_path: Path) -> None:
    scene = open_scene(engine, tmp_path)
    scene.receive(CONTENTS)
    scene.pack()
    scene.table = scene.table.model_copy(update={"local_free_gib": 1e9})
    assert scene.release(0) == len(CONTENTS)


def test_a_series_waits_for_its_time(engine: sa.Engine, tmp_path: Path) -> None:
    scene = open_scene(engine, tmp_path, pack_after_minutes=5e7)  # the images are of 1970
    scene.receive(CONTENTS)
    assert scene.pack() == 0


def test_late_images_make_another_pack(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    first = scene.packs()
    late = scene.receive({"1.1.1.9": b"late"})
    assert scene.pack() == 1
    assert len(scene.packs()) == 2
    assert set(first) < set(scene.packs())
    scene.release()
    assert contents(scene, [*paths, *late]) == [*CONTENTS.values(), b"late"]


def test_a_file_that_is_not_as_recorded_is_neither_packed_nor_deleted(
    scene: PackedSeries, caplog: pytest.LogCaptureFixture
) -> None:
    paths = scene.receive(CONTENTS)
    scene.spool.absolute(paths[2]).write_bytes(b"rotten")
    assert scene.pack() == 0
    assert "is not as it was recorded" in caplog.text
    assert scene.release() == 0
    assert not scene.packs()


def test_a_local_file_that_differs_from_its_pack_stays(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.spool.absolute(paths[2]).write_bytes(b"other")
    assert scene.release() == len(paths) - 1
    assert scene.spool.absolute(paths[2]).read_bytes() == b"other"


def test_the_same_image_with_other_bytes_becomes_a_conflict(scene: PackedSeries) -> None:
    """It was lost before: the row followed the new bytes, and nobody saw that they differed."""
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    scene.receive({"1.1.1.2": b"other bytes"})
    with scene.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(conflict)) == 1
        digests = connection.scalars(sa.select(instance.c.digest).where(instance.c.sop_instance_uid == "1.1.1.2"))
        (digest,) = digests
    assert contents(scene, [paths[1]]) == [CONTENTS["1.1.1.2"]]
    with scene.spool.readable(paths[1]).open("rb") as file:
        assert digest_of(file) == digest


def test_a_pack_goes_when_all_its_images_are_purged(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    with begin_immediate(scene.engine) as connection:
        connection.execute(sa.delete(packed).where(packed.c.path == paths[0]))
    assert scene.deletion().look() == 0
    with begin_immediate(scene.engine) as connection:
        assert locked_study(connection, STUDY) is not None
        purge_study(connection, STUDY)
    assert scene.deletion().look() == 1
    assert not scene.packs()
    with scene.engine.connect() as connection:
        assert not connection.execute(sa.select(pack)).all()
        assert not connection.execute(sa.select(packed)).all()


def test_a_study_that_is_purged_during_the_upload_leaves_no_pack(scene: PackedSeries) -> None:
    scene.receive(CONTENTS)
    packing = scene.packing()
    upload = packing._upload

    def purged_meanwhile(*of: object) -> None:
        upload(*of)  # type: ignore[arg-type]
        with begin_immediate(scene.engine) as connection:
            purge_study(connection, STUDY)

    packing._upload = purged_meanwhile  # type: ignore[assignment]
    packing.pack(scene.objects, scene.unpacked())
    assert scene.deletion().look() == 1
    assert not scene.packs()


def test_a_pack_that_the_store_has_lost_is_an_error_and_no_outage(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    scene.packs()[0].unlink()
    with pytest.raises(PlatformError, match="has no packs/") as caught:
        scene.spool.all_readable(paths)
    assert not isinstance(caught.value, AbsentFileError)
    assert scene.spool.tiers.sizes(paths) == {}


def test_wrong_bytes_are_never_returned(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    (stored,) = scene.packs()
    stored.write_bytes(stored.read_bytes().replace(b"\3\3\3", b"\3\4\3"))
    assert contents(scene, paths[:2]) == [CONTENTS["1.1.1.1"], CONTENTS["1.1.1.2"]]
    with pytest.raises(PlatformError, match="does not have the recorded content"):
        scene.spool.readable(paths[2])
    with scene.engine.connect() as connection:
        recorded = recorded_files(connection, [paths[2]])
    digests = scene.spool.tiers.digests(recorded)[paths[2]]
    assert digests["this machine"] == ""
    assert digests[OBJECT_STORE] not in {"", recorded[paths[2]].digest}


def test_a_large_series_becomes_several_packs(scene: PackedSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.object_store.pack_file.LARGEST_PACK", 2500)
    paths = scene.receive({**CONTENTS, "1.1.1.8": bytes(3000)})
    assert scene.pack() == 1
    assert len(scene.packs()) == 3
    scene.release()
    assert scene.spool.absolute(paths[-1]).exists()  # larger than any pack
    assert contents(scene, paths)[:5] == list(CONTENTS.values())


def test_a_series_in_use_keeps_its_local_copies(scene: PackedSeries) -> None:
    scene.receive(CONTENTS)
    scene.pack()
    with begin_immediate(scene.engine) as connection:
        connection.execute(sa.update(series).values(state="RECEIVING"))
    assert scene.release() == 0
    scene.complete(SERIES)
    assert scene.release() == len(CONTENTS)


def test_a_pack_takes_no_space_that_the_disk_does_not_have(
    scene: PackedSeries, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Images are received on it at that time."""
    paths = scene.receive(CONTENTS)
    with monkeypatch.context() as patched:
        patched.setattr("node.object_store.packing._ROOM_BYTES", 1 << 60)
        assert scene.pack() == 0
    assert "disk full: " in caplog.text
    assert str(scene.spool.folder) in caplog.text
    assert scene.pack() == 1
    scene.release()
    assert contents(scene, paths) == list(CONTENTS.values())
