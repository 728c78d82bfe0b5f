"""Every tier of stored files keeps the same contract: a folder, one without locks, another machine, packs in S3."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from blake3 import blake3
from certificates import Authority
from fleet_machines import FleetMachine
from ledgers import new_on_server, open_copy
from packed_series import open_scene
from s3_server import PROGRAM, Proxy, proxied_server, store_table
from tier_scenes import FolderScene, MachineScene, PackScene, Scene, part10
from without_locks import EVERYBODY_LOCKS, NO_LOCKS, ThreadWithoutLocks

from node.config import ObjectStoreTable
from node.errors import AbsentFileError, InputError, PlatformError
from node.fleet import file_client
from node.ledger.holdings import RecordedFile
from node.object_store import store
from node.object_store.store import open_objects
from node.spool.tiers import Tiers

_NUMBERS = count(1)
_CONTENTS = [part10(os.urandom(3000 + number)) for number in range(5)]


@pytest.fixture(scope="module")
def server() -> Iterator[Proxy]:
    if not PROGRAM.exists():
        pytest.skip("make build/s3-server has not been run")
    with proxied_server() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[MachineScene]:
    folder = tmp_path_factory.mktemp("machines")
    url, authority = new_on_server(postgres_server, "tiers"), Authority(folder / "authority")
    a, b = (FleetMachine(folder / name, url, authority, copies=2) for name in ("a", "b"))
    scene = MachineScene(a, b)
    yield scene
    scene.close()
    a.close()
    b.close()


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory, server: Proxy) -> PackScene:
    folder = tmp_path_factory.mktemp("packs")
    table = ObjectStoreTable(**store_table(server.url, "tiers", folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_RETRIES", 0)
        objects = open_objects(table)
    return PackScene(open_scene(open_copy(f"sqlite:///{folder / 'ledger.sqlite'}"), folder, objects), server)


AWAY = ("machines", "packs")


@pytest.fixture(params=["folder", "folder without locks", "folder with locks for everybody", *AWAY])
def tier(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    if request.param in AWAY:
        return request.getfixturevalue(request.param)
    if request.param == "folder":
        return FolderScene(tmp_path / "spool", lambda keep: keep())
    answer = NO_LOCKS if request.param == "folder without locks" else EVERYBODY_LOCKS
    return FolderScene(tmp_path / "spool", ThreadWithoutLocks(answer).run)


@pytest.fixture
def series() -> str:
    return f"1.1.{next(_NUMBERS)}"


def images(series: str) -> dict[str, bytes]:
    """Files by SOP Instance UID."""
    return {f"{series}.{number}": content for number, content in enumerate(_CONTENTS, 1)}


def contents(tier: Scene, recorded: dict[str, RecordedFile]) -> dict[str, bytes]:
    """What the tier gives, by SOP Instance UID."""
    places = tier.files.fetch(recorded)
    return {Path(path).stem: place.read_bytes() for path, place in places.items() if isinstance(place, Path)}


def test_what_was_kept_is_read_back_byte_for_byte(tier: Scene, series: str) -> None:
    recorded = tier.keep(series, images(series))
    assert contents(tier, recorded) == images(series)
    assert tier.files.sizes(list(recorded)) == {path: of.size for path, of in recorded.items()}
    digests = tier.files.digests(recorded)
    assert {path: set(places.values()) for path, places in digests.items()} == {
        path: {of.digest} for path, of in recorded.items()
    }
    assert [file.read_bytes() for file in tier.spool.all_readable(recorded)] == _CONTENTS


def test_what_is_not_there_is_left_out_and_whoever_opens_it_learns_its_name(tier: Scene, series: str) -> None:
    recorded = tier.keep(series, images(series))
    path, of = next(iter(recorded.items()))
    absent = path.replace(".1.dcm", ".7.dcm")
    assert set(tier.files.fetch({absent: of, **recorded})) == set(recorded)
    assert tier.files.sizes([absent]) == {}
    assert set(tier.files.digests({absent: of}).get(absent, {}).values()) <= {""}
    assert tier.spool.stored_size(absent) is None
    with pytest.raises(FileNotFoundError, match=absent):
        tier.spool.readable(absent).read_bytes()


def test_other_content_is_never_given_and_the_next_tier_is_asked(
    tier: Scene, series: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = tier.keep(series, images(series))
    altered = next(iter(recorded))
    tier.alter(altered)
    answer = tier.files.fetch(recorded)[altered]
    assert isinstance(answer, PlatformError)
    assert not isinstance(answer, AbsentFileError)
    assert contents(tier, recorded) == {sop: of for sop, of in images(series).items() if sop != f"{series}.1"}
    with pytest.raises(PlatformError, match="recorded"):
        Tiers([tier.files]).fetch(recorded)
    further = FolderScene(tmp_path / "further", lambda keep: keep())
    further.keep(series, images(series))
    places = Tiers([tier.files, further.files]).fetch(recorded)
    assert [places[path].read_bytes() for path in recorded] == _CONTENTS
    assert f"files that come from a further tier: 1; {answer}" in caplog.text


def test_a_draft_that_was_cut_off_is_not_there(tier: Scene, series: str) -> None:
    path = tier.cut_off(series, f"{series}.1", _CONTENTS[0])
    wanted = {path: RecordedFile("blake3:" + "0" * 64, 3001)}
    assert tier.files.fetch(wanted) == tier.files.sizes([path]) == {}
    recorded = tier.keep(series, images(series))
    assert contents(tier, recorded) == images(series)


def test_the_same_content_again_changes_nothing_and_other_content_replaces_nothing(tier: Scene, series: str) -> None:
    recorded = tier.keep(series, images(series))
    assert tier.keep(series, images(series)) == recorded
    other = {f"{series}.1": part10(b"other bytes")}
    assert all(recorded.get(path) in (None, of) for path, of in tier.keep(series, other).items())
    assert contents(tier, recorded) == images(series)


def test_what_was_purged_is_not_there_and_can_be_kept_again(tier: Scene, series: str) -> None:
    recorded = tier.keep(series, images(series))
    tier.purge(recorded)
    assert tier.files.fetch(recorded) == tier.files.sizes(list(recorded)) == {}
    assert contents(tier, tier.keep(series, images(series))) == images(series)


@pytest.mark.parametrize("path", ["salt", "../salt", "incoming/1.1/../../salt", "incoming/1.1/1.1/salt", "work/j/salt"])
def test_a_name_outside_of_the_stored_files_is_nowhere(tier: Scene, path: str) -> None:
    tier.offer(path)
    wanted = {path: RecordedFile(f"blake3:{blake3(b'secret').hexdigest()}", 6)}
    assert tier.files.fetch(wanted) == tier.files.sizes([path]) == {}
    with pytest.raises((InputError, AbsentFileError), match="is not a UID"):
        tier.keep(f"../{path}", images("1.1"))


def test_readers_beside_a_purge_get_the_whole_file_or_none(
    tier: Scene, series: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = tier.keep(series, images(series))
    other, begun, purged, wrong = f"{series}.1", threading.Event(), threading.Event(), list[object]()

    def read() -> None:
        while not purged.is_set():
            for path, place in tier.files.fetch(recorded).items():
                try:
                    content = place.read_bytes() if isinstance(place, Path) else None
                except FileNotFoundError:  # deleted at this moment
                    continue
                if content == images(series)[Path(path).stem]:
                    begun.set()
                elif content is not None:
                    wrong.append((path, len(content)))

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(4)]
        kept = tier.keep(other, images(other))
        has_begun = begun.wait(60.0)
        tier.purge(recorded)
        purged.set()
        for reader in readers:
            reader.result()
    assert has_begun
    assert wrong == []
    assert tier.files.fetch(recorded) == {}
    assert "Exception" not in caplog.text
    assert contents(tier, kept) == images(other)


@pytest.mark.parametrize("name", ["folder", "machines"])
def test_a_file_that_cannot_be_made_durable_is_refused_and_not_there(
    name: str, tmp_path: Path, series: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack counts only after it was read back: see what is cut off."""
    tier = request.getfixturevalue(name) if name in AWAY else FolderScene(tmp_path / "spool", lambda keep: keep())

    def fails(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises((OSError, AbsentFileError), match="Input/output error"):
            tier.keep(series, images(series))
    wanted = {f"incoming/1.1/{series}/{series}.1.dcm": RecordedFile("blake3:" + "0" * 64, 3001)}
    assert tier.files.fetch(wanted) == tier.files.sizes(list(wanted)) == {}


@pytest.mark.parametrize("name", AWAY)
def test_a_tier_without_an_answer_is_an_outage_that_ends(
    name: str, series: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.object_store.packed_reader._ASKED_SECONDS", 0.0)
    tier = request.getfixturevalue(name)
    recorded = tier.keep(series, images(series))
    with monkeypatch.context() as patch, tier.silent():
        patch.setattr(file_client, "SILENCE_SECONDS", 1.0)
        for answers in (tier.files.fetch(recorded), tier.files.sizes(list(recorded))):
            assert set(answers) == set(recorded)
            assert all(isinstance(answer, AbsentFileError) for answer in answers.values())
        with pytest.raises(AbsentFileError):
            tier.spool.all_readable(recorded)
        with pytest.raises(AbsentFileError):
            tier.spool.stored_size(next(iter(recorded)))
        assert {of for places in tier.files.digests(recorded).values() for of in places.values()} == {None}
    assert contents(tier, recorded) == images(series)


def test_a_machine_that_stalls_costs_its_time_limit_once_and_the_pack_is_read(
    machines: MachineScene,
    packs: PackScene,
    series: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorded = machines.keep(series, images(series))
    assert packs.keep(series, images(series)) == recorded
    tiers = Tiers([machines.files, packs.files])
    with monkeypatch.context() as patch, machines.silent() as listener:
        patch.setattr(file_client, "SILENCE_SECONDS", 1.0)
        for is_asked in (True, False):  # not again so soon
            places = tiers.fetch(recorded)
            assert [places[path].read_bytes() for path in recorded] == _CONTENTS
            assert bool(connections(listener)) == is_asked
    assert caplog.text.count("files that come from a further tier: 5") == 2


def connections(listener: socket.socket) -> int:
    """How many have come since the last call."""
    for number in count():
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return number
    raise AssertionError
