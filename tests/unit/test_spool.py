"""The spool: nothing overwritten, nothing partial under a final name, nothing outside its folder."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3
from without_locks import EVERYBODY_LOCKS, NO_LOCKS, ThreadWithoutLocks

from node.errors import InputError, PlatformError
from node.spool import Draft, Spool, is_uid
from node.spool.tiers import Content, OtherTiers

ROOT = Path(__file__).parents[2]


def part10(data: bytes, sender: bytes = b"SENDER") -> bytes:
    """A file whose meta group names its sender, as the receiver writes it."""
    meta = b"\x02\x00\x16\x00AE" + len(sender).to_bytes(2, "little") + sender
    return b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta + data


def everything(spool: Spool) -> list[str]:
    return sorted(str(p.relative_to(spool.folder)) for p in spool.folder.rglob("*") if p.is_file())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def test_a_kept_file_is_what_was_given_and_its_digest_is_of_the_whole_file(spool: Spool) -> None:
    kept = spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"ab"), memoryview(b"cd")])
    content = spool.absolute(kept.path).read_bytes()
    assert content == part10(b"ab") + b"cd"
    assert (kept.status, kept.path) == ("new", "incoming/1.2/1.2.3/1.2.3.4.dcm")
    assert (kept.size, kept.digest) == (len(content), f"blake3:{blake3(content).hexdigest()}")
    assert everything(spool) == [kept.path]


def test_a_copy_is_of_a_regular_file_of_bounded_size(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    file.write_bytes(b"abcd")
    link.symlink_to(file)
    os.mkfifo(pipe)
    draft = spool.drafts.new()
    draft.copy(file)
    assert (draft.path.read_bytes(), draft.digest) == (b"abcd", f"blake3:{blake3(b'abcd').hexdigest()}")
    for other, fault in ((link, "link is a link"), (pipe, "pipe is no regular file"), (tmp_path, "no regular file")):
        with pytest.raises(InputError, match=fault):
            draft.copy(other)
    monkeypatch.setattr("node.spool.drafts.LARGEST_OBJECT", 7)
    with pytest.raises(InputError, match="file has more than 7 bytes"):
        draft.copy(file)
    draft.discard()


def test_the_same_data_set_again_is_the_same_also_from_another_sender(spool: Spool) -> None:
    first = spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"abcd", b"ONE1")])
    again = spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"abcd", b"OTHERS")])
    assert again.status == "same"
    assert (again.path, again.digest, again.size) == (first.path, first.digest, first.size)
    assert everything(spool) == [first.path]


def test_the_ledger_is_not_asked_about_images_that_are_here(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def recorded(paths: Collection[str]) -> dict[str, Content]:
        asked.append(list(paths))
        return {}

    spool = Spool(tmp_path, others=OtherTiers(recorded=recorded))
    kept = spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"data")])
    assert spool.readable(kept.path) == tmp_path / kept.path
    assert asked == []
    absent = "incoming/1.2/1.2.3/1.2.3.5.dcm"
    assert spool.all_readable([kept.path, absent]) == (tmp_path / kept.path, tmp_path / absent)
    assert asked == [[absent]]


def test_other_bytes_are_kept_beside_the_first_which_stays_as_it_is(spool: Spool) -> None:
    first = spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"abcd")])
    other = spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"abce")])
    longer = spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"abcdef")])
    assert (other.status, longer.status) == ("conflict", "conflict")
    assert spool.absolute(first.path).read_bytes() == part10(b"abcd")
    assert spool.absolute(other.path).read_bytes() == part10(b"abce")
    assert spool.absolute(longer.path).read_bytes() == part10(b"abcdef")
    assert spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"abce")]).path == other.path
    assert len(everything(spool)) == 3


def test_eight_writers_of_one_instance_end_with_one_file_and_its_conflict(spool: Spool) -> None:
    contents = [part10(b"A" * 300_000), part10(b"B" * 300_000)]
    barrier = threading.Barrier(8)

    def write(index: int) -> str:
        barrier.wait()
        return spool.keep("1.2", "1.2.3", "1.2.3.4", [contents[index % 2]]).status

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(write, range(8)))
    assert statuses == ["conflict"] * 4 + ["new"] + ["same"] * 3
    assert sorted(spool.absolute(path).read_bytes() for path in everything(spool)) == contents


@pytest.mark.parametrize(
    "uid", ["", "..", "../../evil", "1.2/3", "1..2", ".1", "1.", "1.2\n", "1" * 65, "1.2a", "\u0661.\u0662"]
)
def test_what_is_no_uid_never_becomes_a_path(spool: Spool, uid: str) -> None:
    assert not is_uid(uid)
    for uids in ((uid, "1", "2"), ("1", uid, "2"), ("1", "2", uid)):
        with pytest.raises(InputError, match="is not a UID"):
            spool.keep(*uids, [part10(b"")])
    with pytest.raises(InputError, match="is not a UID"):
        spool.keep_result("job", uid, b"")
    assert everything(spool) == []


@pytest.mark.parametrize("job", ["", ".", "..", "../x", "a/b", "-x", "a" * 129])
def test_a_job_id_that_is_no_folder_name_is_refused(spool: Spool, job: str) -> None:
    with pytest.raises(InputError, match="folder name"):
        spool.keep_result(job, "1.2", b"")
    with pytest.raises(InputError, match="folder name"):
        spool.work(job)


def test_uids_of_real_devices_are_let_through() -> None:
    assert is_uid("1.2.840.10008.5.1.4.1.1.2")
    assert is_uid("999.999.2.19941105.112000.2.107")
    assert is_uid("1.2.040.3")
    assert is_uid("1" * 64)


def test_a_result_replaces_its_predecessor(spool: Spool) -> None:
    first = spool.keep_result("job-1", "1.2.3", b"one")
    second = spool.keep_result("job-1", "1.2.3", b"two")
    assert first.path == second.path == "results/job-1/1.2.3.dcm"
    assert spool.absolute(second.path).read_bytes() == b"two"
    assert second.digest == f"blake3:{blake3(b'two').hexdigest()}"


def test_a_disk_that_refuses_leaves_nothing_behind(spool: Spool) -> None:
    def chunks() -> Iterator[bytes]:
        yield part10(b"begin")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        spool.keep("1.2", "1.2.3", "1.2.3.4", chunks())
    assert everything(spool) == []


def test_a_killed_writer_leaves_a_temporary_that_is_swept_and_a_living_one_keeps_its_own(spool: Spool) -> None:
    program = (
        "import sys; from pathlib import Path; from node.spool import Spool\n"
        "def chunks():\n"
        "    yield b'x' * 100\n"
        "    print('half', flush=True); sys.stdin.read(); yield b'y' * 100\n"
        "Spool(Path(sys.argv[1])).keep_result('job', '1.2', b'') and "
        "Spool(Path(sys.argv[1])).keep('1.2', '1.2.3', '1.2.3.4', chunks())\n"
    )
    command = [sys.executable, "-c", program, str(spool.folder)]
    writers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
    rescued: list[list[Path]] = []
    assert spool.drafts.sweep(rescued.append) == 0
    writers[0].kill()
    writers[0].communicate()
    assert spool.drafts.sweep(rescued.append) == 1
    assert rescued == []
    writers[1].communicate("")
    assert writers[1].returncode == 0
    assert everything(spool) == ["incoming/1.2/1.2.3/1.2.3.4.dcm", "results/job/1.2.dcm"]
    assert spool.absolute("incoming/1.2/1.2.3/1.2.3.4.dcm").read_bytes() == b"x" * 100 + b"y" * 100


def test_a_second_name_that_the_rescue_wants_to_keep_stays_for_the_next_sweep(tmp_path: Path) -> None:
    writer, other = Spool(tmp_path), Spool(tmp_path)
    for sop in ("1.1", "1.2"):
        draft = writer.drafts.new()
        draft.write([part10(b"x")])
        writer.keep("1.2", "1.2.3", sop, draft)
    assert other.drafts.without_row(0.0) == 2
    assert other.drafts.without_row(60.0) == 0
    del writer  # as if its process had ended
    assert other.drafts.sweep(lambda names: names[:1]) == 1
    assert other.drafts.without_row(0.0) == 1
    assert other.drafts.sweep(lambda _names: []) == 1
    assert other.drafts.without_row(0.0) == 0
    assert not any((tmp_path / "temporary").iterdir())


def test_a_draft_keeps_its_name_until_its_owner_has_written_the_row(tmp_path: Path) -> None:
    writer, other = Spool(tmp_path), Spool(tmp_path)
    draft = writer.drafts.new()
    draft.write([part10(b"x")])
    kept = writer.keep("1.2", "1.2.3", "1.2.3.4", draft)
    rescued: list[list[Path]] = []

    def rescue(names: list[Path]) -> list[Path]:
        rescued.append(names)
        return []

    assert other.drafts.sweep(rescue) == 0
    assert other.drafts.is_locked(writer.drafts.writer)
    assert other.path_of(draft.path, "1.2", "1.2.3", "1.2.3.4") == kept.path
    name = writer.drafts.writer
    del writer  # as if its process had ended
    assert not other.drafts.is_locked(name)
    assert other.drafts.sweep(rescue) == 1
    assert [[path.name for path in paths] for paths in rescued] == [[draft.path.name]]
    draft.discard()
    assert everything(other) == [kept.path]


def test_a_writer_that_was_held_for_dead_acknowledges_nothing_of_what_was_taken_and_writes_on(tmp_path: Path) -> None:
    writer, other = Spool(tmp_path, writer="receiver-1"), Spool(tmp_path, writer="receiver-2")
    taken = writer.drafts.new()
    taken.write([part10(b"x")])
    unlock(tmp_path / "temporary" / "receiver-1")
    assert other.drafts.sweep(lambda _names: [], lambda: {"receiver-1"}) == 0
    assert other.drafts.sweep(lambda _names: [], lambda: {"receiver-2"}) == 1
    with pytest.raises(FileNotFoundError):
        writer.keep("1.2", "1.2.3", "1.2.3.4", taken)
    assert everything(other) == []
    draft = writer.drafts.new()
    draft.write([part10(b"y")])
    kept = writer.keep("1.2", "1.2.3", "1.2.3.4", draft)
    assert other.drafts.writers() == {"receiver-1"}
    draft.discard()
    assert everything(other) == [kept.path]


def unlock(folder: Path) -> None:
    """Drop the lock of this process, as a file system does that does not show other machines' locks."""
    for entry in Path("/proc/self/fd").iterdir():
        if entry.resolve() == folder:
            fcntl.flock(int(entry.name), fcntl.LOCK_UN)


@pytest.mark.parametrize("answer", [NO_LOCKS, EVERYBODY_LOCKS])
def test_without_locks_membership_alone_shows_who_is_alive_and_nothing_partial_is_left(
    tmp_path: Path, answer: int
) -> None:
    thread = ThreadWithoutLocks(answer)
    writer, other = Spool(tmp_path, writer="receiver-1"), Spool(tmp_path, writer="receiver-2")

    def begin() -> Draft:
        draft = writer.drafts.new()
        draft.write([part10(b"x")])
        return draft

    draft = thread.run(begin)
    assert not thread.run(lambda: other.drafts.is_locked("receiver-1"))
    assert thread.run(lambda: other.drafts.sweep(lambda _names: [], lambda: {"receiver-1"})) == 0
    kept = writer.keep("1.2", "1.2.3", "1.2.3.4", draft)
    draft.discard()
    taken = thread.run(begin)
    assert thread.run(lambda: other.drafts.sweep(lambda _names: [], lambda: {"receiver-2"})) == 1
    with pytest.raises(FileNotFoundError):
        writer.keep("1.2", "1.2.3", "1.2.3.5", taken)
    assert everything(other) == [kept.path]


def test_every_received_file_is_found_again_study_by_study(spool: Spool) -> None:
    paths = [spool.keep("1.2", "1.2.3", sop, [part10(b"x")]).path for sop in ("1.1", "1.2")]
    paths.append(spool.keep("1.2", "1.2.9", "1.3", [part10(b"x")]).path)
    paths.append(spool.keep("1.2", "1.2.9", "1.3", [part10(b"y")]).path)
    other = spool.keep("1.4", "1.2.9", "1.3", [part10(b"x")]).path
    spool.keep_result("job", "1.5", b"r")
    assert list(spool.received()) == [("1.2", sorted(paths[:3])), ("1.4", [other]), ("1.2", paths[3:])]


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced, below the spool's folder, in its order."""
    seen: list[str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        seen.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path / "spool")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    return seen


def test_with_durability_process_nothing_waits_for_the_disk(tmp_path: Path, synced: list[str]) -> None:
    spool = Spool(tmp_path / "spool", synced=False)
    first = spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"x")])
    synced.clear()  # new folders are made durable always
    second = spool.keep("1.2", "1.2.3", "1.2.3.5", [part10(b"y")])
    assert synced == []
    assert [spool.absolute(kept.path).exists() for kept in (first, second)] == [True, True]
    spool.keep_result("job", "1.5", b"r")
    assert synced[-1] == "results/job"


def test_file_and_folders_are_synced_before_the_promise(spool: Spool, synced: list[str]) -> None:
    spool.keep("1.2", "1.2.3", "1.2.3.4", [part10(b"x")])
    assert synced[0].startswith("temporary/")
    assert set(synced[1:]) == {".", "incoming", "incoming/1.2", "incoming/1.2/1.2.3"}
    assert synced[-1] == "incoming/1.2/1.2.3"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match=r"\[storage\] folder .*file/spool"):
        Spool(tmp_path / "file" / "spool")


def test_free_space_is_that_of_its_file_system(spool: Spool) -> None:
    space = os.statvfs(spool.folder)
    assert spool.space().free_gib == pytest.approx(space.f_bavail * space.f_frsize / 2**30, abs=1.0)
