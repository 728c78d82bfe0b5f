"""A lost ledger gets its images back from packs, and nothing else that lies in the bucket."""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from ledgers import open_copy
from packed_series import SERIES, STUDY, PackedSeries, open_scene

from node.errors import InputError
from node.ledger.packed_files import packed_files
from node.ledger.tables import instance, pack, packed
from node.object_store.pack_file import FOLDER, pack_name
from node.object_store.recovery import recover_pack, unknown_packs
from node.spool import digest_of


@pytest.fixture
def scene(engine: sa.Engine, tmp_path: Path) -> PackedSeries:
    return open_scene(engine, tmp_path)


def images() -> dict[str, bytes]:
    contents = {}
    for dataset in ct_series(3, 8, study=STUDY, series=SERIES):
        file = pydicom.filebase.DicomBytesIO()
        dataset.save_as(file, enforce_file_format=True)
        contents[str(dataset.SOPInstanceUID)] = file.getvalue()
    return contents


def test_a_lost_ledger_and_disk_are_rebuilt_from_the_packs(scene: PackedSeries, tmp_path: Path) -> None:
    contents = images()
    paths = scene.receive(contents)
    scene.pack()
    scene.release()
    (tmp_path / "new").mkdir()
    engine = open_copy(f"sqlite:///{tmp_path / 'new' / 'ledger.sqlite'}")
    new = open_scene(engine, tmp_path / "new", scene.objects)
    (name,) = unknown_packs(engine, scene.objects)
    assert new.deletion().look() == 0
    assert recover_pack(engine, new.spool, scene.objects, name) == (3, 0, 0)
    assert unknown_packs(engine, scene.objects) == []
    with engine.connect() as connection:
        assert set(connection.scalars(sa.select(instance.c.path))) == set(paths)
        assert packed_files(connection, paths).keys() == set(paths)
    new.complete()
    assert new.release() == 3
    assert [file.read_bytes() for file in new.spool.all_readable(paths)] == list(contents.values())
    assert recover_pack(engine, new.spool, scene.objects, name) == (0, 3, 0)
    engine.dispose()


def test_an_older_ledger_learns_what_was_packed_later(scene: PackedSeries) -> None:
    contents = images()
    paths = scene.receive(contents)
    scene.pack()
    scene.release()
    with scene.engine.begin() as connection:
        connection.execute(sa.delete(packed))
        connection.execute(sa.delete(pack))
    (name,) = unknown_packs(scene.engine, scene.objects)
    assert recover_pack(scene.engine, scene.spool, scene.objects, name) == (0, 3, 0)
    assert [file.read_bytes() for file in scene.spool.all_readable(paths)] == list(contents.values())


def test_what_is_no_pack_of_ours_is_left_alone(scene: PackedSeries) -> None:
    folder = scene.bucket / FOLDER
    folder.mkdir()
    (folder / "other.zip").write_bytes(b"of somebody else")
    damaged = f"{FOLDER}/{'0' * 64}.zip"
    (scene.bucket / damaged).write_bytes(b"damaged")
    foreign = scene.bucket / "foreign"
    foreign.write_bytes(os.urandom(300))
    with foreign.open("rb") as file:
        name = pack_name(digest_of(file))
    foreign.rename(scene.bucket / name)
    assert unknown_packs(scene.engine, scene.objects) == sorted([damaged, name])
    with pytest.raises(InputError, match="damaged"):
        recover_pack(scene.engine, scene.spool, scene.objects, damaged)
    with pytest.raises(InputError, match="no pack"):
        recover_pack(scene.engine, scene.spool, scene.objects, name)
    assert not list((scene.spool.folder / "incoming").iterdir())
