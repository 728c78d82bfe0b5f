"""Several receiver processes on one port, and their replacement while associations are open."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dicom_files import ct_series, write
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.association import Association
from raw_peer import RAW_CT, answer
from real_peers import program
from receivers import associate, associate_rq, drop, encode, send, until
from supervised import Supervised

from node.ledger.tables import association, instance

CT = [(CTImageStorage, ExplicitVRLittleEndian)]


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path)
    yield running
    running.kill()


def accepted(supervised: Supervised, count: int, calling: str = "PEER", called: str = "AINODE") -> list[Association]:
    tried = [associate(supervised, CT, calling=calling, called=called) for _ in range(count)]  # type: ignore[arg-type]
    return [sender for sender in tried if sender.is_established]


def answered(sender: Association, count: int = 1) -> bool:
    """Whether new images are answered with Success on an association."""
    images = ct_series(count, 16)
    return all(send(sender, CTImageStorage, d.SOPInstanceUID, encode(d)).Status == 0x0000 for d in images)


def opened(supervised: Supervised, calling: bytes) -> socket.socket | None:
    """An association, or ``None`` when it was rejected."""
    caller = socket.create_connection(("127.0.0.1", supervised.port), 60.0)
    caller.sendall(associate_rq(RAW_CT, calling=calling))
    if answer(caller)[:1] == b"\2":
        return caller
    caller.close()
    return None


def callers_of(process: psutil.Process) -> int:
    """How many callers one receiver serves; its other connection is the one that listens."""
    return len(process.net_connections()) - 1


def test_limits_hold_over_all_processes_and_a_killed_one_frees_its_seats(supervised: Supervised) -> None:
    callers = '[{title = "A", max_associations = 2}, {title = "B"}]'
    supervised.start(f"processes = 2\nmax_associations = 6\ncallers = {callers}")
    assert len(supervised.receivers()) == 2
    of_a = [caller for caller in (opened(supervised, b"A") for _ in range(4)) if caller]
    for _ in range(20):  # which process takes a caller is chance: it may be the same one each time
        of_b = [caller for caller in (opened(supervised, b"B") for _ in range(6)) if caller]
        assert (len(of_a), len(of_b)) == (2, 4)
        if all(callers_of(process) for process in supervised.receivers()):
            break
        for caller in of_b:
            caller.close()
        until(lambda: sum(callers_of(process) for process in supervised.receivers()) == len(of_a))
    else:
        pytest.fail("one process served all, twenty times")
    of_a.pop().close()
    until(lambda: [of_a.append(caller) for caller in [opened(supervised, b"A")] if caller] == [None])
    assert opened(supervised, b"B") is None
    supervised.receivers()[0].kill()
    supervised.wait_for("receiver ready", 3)
    again = [caller for caller in (opened(supervised, b"B") for _ in range(7)) if caller]
    assert 1 <= len(again) < 6
    for caller in (*of_a, *of_b, *again):
        caller.close()


def test_a_caller_that_comes_while_no_receiver_lives_is_served_by_the_next_one(supervised: Supervised) -> None:
    supervised.start("processes = 1")
    (receiver,) = supervised.receivers()
    receiver.kill()
    with socket.create_connection(("127.0.0.1", supervised.port), 60.0) as caller:
        caller.sendall(associate_rq(RAW_CT))
        assert answer(caller)[:1] == b"\2"
    supervised.wait_for("receiver ready", 2)


def paused_in_mid_study(
    supervised: Supervised, folder: Path, images: int
) -> tuple[subprocess.Popen[bytes], list[Path]]:
    """A storescu that has sent a part of a study on one association, and does nothing for now."""
    paths = write(ct_series(images, 128), folder)
    line = [program("storescu"), "-aec", "AINODE", "+sd", "127.0.0.1", str(supervised.port), str(folder)]
    sender = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    while len(supervised.node().rows(instance)) <= 2:  # it works in slices: it must not be done before we have looked
        sender.send_signal(signal.SIGCONT)
        time.sleep(0.02)
        sender.send_signal(signal.SIGSTOP)
        assert sender.poll() is None
    time.sleep(0.2)
    assert 2 < len(supervised.node().rows(instance)) < images
    return sender, paths


def names(supervised: Supervised) -> set[str]:
    return {row.sop_instance_uid for row in supervised.node().rows(instance)}


def test_a_reload_drops_no_association_and_the_next_one_meets_the_new_rules(
    supervised: Supervised, tmp_path: Path
) -> None:
    supervised.start("processes = 2")
    before = supervised.receivers()
    sender, paths = paused_in_mid_study(supervised, tmp_path / "study", 120)
    supervised.reload('processes = 1\ntitle = "NEW"')
    until(lambda: sum(process.is_running() for process in before) == 1)  # the one that serves the storescu
    assert accepted(supervised, 1, called="AINODE") == []
    (other,) = accepted(supervised, 1, called="NEW")
    assert answered(other)
    other.release()
    sender.send_signal(signal.SIGCONT)
    assert sender.wait(60.0) == 0
    assert {path.stem for path in paths} <= names(supervised)
    until(lambda: not any(process.is_running() for process in before))
    assert len(supervised.receivers()) == 1
    assert supervised.stop() == 0


def test_a_faulty_configuration_is_refused_with_its_key_and_the_old_one_stays(supervised: Supervised) -> None:
    supervised.start("processes = 1")
    before = supervised.receivers()
    for fault, words in (
        ("processses = 2", "unknown key ae.processses (did you mean 'processes'?)"),
        ("port 2", "not valid TOML"),
        (f"port = {supervised.port}", "Cannot overwrite a value"),
    ):
        supervised.configure(fault)
        supervised.process.send_signal(signal.SIGHUP)
        supervised.wait_for(words)
    assert supervised.log().count("new configuration rejected, the old one stays in force") == 3
    before[0].kill()  # its successor still gets the text that was good
    supervised.wait_for("receiver ready", 2)
    (sender,) = accepted(supervised, 1)
    assert answered(sender)
    sender.release()
    assert supervised.stop() == 0


def test_a_stop_lets_a_study_on_its_way_come_in(supervised: Supervised, tmp_path: Path) -> None:
    supervised.start("processes = 2")
    sender, paths = paused_in_mid_study(supervised, tmp_path / "study", 120)
    sender.send_signal(signal.SIGCONT)
    assert supervised.stop() == 0
    assert sender.wait(60.0) == 0
    assert {path.stem for path in paths} == names(supervised)
    assert all(row.closed_at for row in supervised.node().rows(association))


def test_callers_wait_on_a_socket_that_systemd_holds_while_the_node_starts_and_restarts(
    supervised: Supervised,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as systemd:
        assert systemd.getsockname()[1] != supervised.port
        for _ in range(2):
            with socket.create_connection(systemd.getsockname(), 60.0) as caller:
                caller.sendall(associate_rq(RAW_CT))
                supervised.start("processes = 2", activated_by=systemd)
                assert answer(caller)[:1] == b"\2"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", supervised.port), 1.0)
            assert supervised.stop() == 0


def test_with_durability_process_an_acknowledged_image_survives_kill_9(supervised: Supervised) -> None:
    storage = 'min_free_gib = 0.0\ndurability = "process"'
    supervised.start("processes = 1", storage)
    (sender,) = accepted(supervised, 1)
    image = ct_series(1, 16)[0]
    assert send(sender, CTImageStorage, image.SOPInstanceUID, encode(image)).Status == 0x0000
    supervised.kill()
    drop(sender)
    supervised.start("processes = 1", storage)
    assert names(supervised) == {image.SOPInstanceUID}
    assert supervised.stop() == 0
