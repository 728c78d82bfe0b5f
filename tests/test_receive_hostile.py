"""Peers that are broken, silent, slow or hostile: they are refused in words, and nobody else notices them."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicom_files import ct_series, text_report, write
from peers import dcmtk
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)
from raw_peer import RAW_CT, answer, c_store_begin, connection, encode_command, p_data
from receivers import Node, ReceiverProcess, associate, associate_rq, encode, receiving, send, send_dataset, until

from node.errors import InputError
from node.ledger.engine import begin_immediate
from node.ledger.tables import association, instance
from node.receive import committer
from node.receive.receiver import Receiver
from node.receive.status import Refusal
from node.spool import Spool, dataset_offset

pytestmark = pytest.mark.filterwarnings("ignore:.*(UI|UID|AE|Invalid value).*:UserWarning")

CT: list[tuple[str, Any]] = [(CTImageStorage, ExplicitVRLittleEndian)]


def nothing_kept(node: Node) -> bool:
    return node.files() == [] and node.rows(instance) == [] and node.rows(association) == []


def store_works(node: Node) -> bool:
    sender = associate(node, CT)
    if not sender.is_established:
        return False
    status = send_dataset(sender, ct_series(1)[0]).Status
    sender.release()
    return bool(status == 0x0000)


# --- what a C-STORE may say ---------------------------------------------------------------------------------------

EVIL = ["../../evil", "1" * 70, "", "1.2.3/../../4", "1..2", "/etc/passwd"]


@pytest.mark.parametrize("uid", EVIL)
def test_an_unusable_uid_in_the_request_is_refused_and_the_association_lives_on(node: Node, uid: str) -> None:
    dataset = ct_series(1)[0]
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, uid or None, encode(dataset))
    assert refused.Status == 0xC001
    assert refused.ErrorComment.startswith("Affected SOP Instance UID ")
    assert len(refused.ErrorComment) <= 64
    assert nothing_kept(node)
    assert send_dataset(sender, dataset).Status == 0x0000
    sender.release()
    assert len(node.files()) == 1


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("uid", EVIL)
def test_an_unusable_uid_in_the_data_set_is_refused(node: Node, keyword: str, uid: str) -> None:
    dataset = ct_series(1)[0]
    sop_instance = dataset.SOPInstanceUID
    setattr(dataset, keyword, uid)
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, sop_instance, encode(dataset))
    sender.release()
    assert refused.Status == 0xC001
    assert refused.ErrorComment.startswith(f"{keyword} ")
    assert nothing_kept(node)


def test_a_data_set_of_another_class_is_refused_with_a900(node: Node) -> None:
    dataset = ct_series(1)[0]
    dataset.SOPClassUID = MRImageStorage
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, dataset.SOPInstanceUID, encode(dataset))
    sender.release()
    assert (refused.Status, refused.ErrorComment) == (0xA900, "SOPClassUID of the data set differs from the request")
    assert nothing_kept(node)


def test_a_data_set_of_another_instance_is_refused(node: Node) -> None:
    dataset = ct_series(1)[0]
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, "1.2.3", encode(dataset))
    sender.release()
    assert refused.Status == 0xC002
    assert nothing_kept(node)


def test_a_class_that_is_not_the_context_s_is_refused_with_0122(node: Node) -> None:
    report = text_report()
    sender = associate(node, CT)
    refused = send(sender, report.SOPClassUID, report.SOPInstanceUID, encode(report))
    sender.release()
    assert refused.Status == 0x0122
    assert nothing_kept(node)


@pytest.mark.parametrize(
    "data",
    [None, b"no data set at all", encode(ct_series(1)[0])[:-100], b"\xff" * 1000],
    ids=["none", "text", "truncated", "ff"],
)
def test_what_is_no_complete_data_set_is_refused(node: Node, data: bytes | None) -> None:
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, "1.2.3", data)
    sender.release()
    assert refused.Status in {0xC000, 0xC001}
    assert refused.ErrorComment
    assert nothing_kept(node)


def test_a_data_set_in_another_syntax_than_negotiated_is_refused(node: Node) -> None:
    dataset = ct_series(1)[0]
    for negotiated, used in ((ImplicitVRLittleEndian, ExplicitVRLittleEndian),):
        sender = associate(node, [(CTImageStorage, negotiated)])
        refused = send(sender, CTImageStorage, dataset.SOPInstanceUID, encode(dataset, used))
        sender.release()
        assert refused.Status in {0xC000, 0xC001}
    sender = associate(node, [(CTImageStorage, DeflatedExplicitVRLittleEndian)])
    refused = send(sender, CTImageStorage, dataset.SOPInstanceUID, encode(dataset))
    sender.release()
    assert refused.Status == 0xC000
    assert nothing_kept(node)


def test_the_comment_of_a_refusal_fits_its_attribute_and_quotes_nothing_dangerous() -> None:
    refusal = Refusal(0xC000, "é\\\x1b[31m\n" + "x" * 100)
    assert refusal.comment == "???[31m?" + "x" * 56


def test_a_truncated_file_from_a_real_sender_is_not_kept(node: Node, tmp_path: Path) -> None:
    (path,) = write(ct_series(1, 64), tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-1000])
    dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, path)
    assert nothing_kept(node)
    assert store_works(node)


@pytest.mark.skipif("AINODE_DATA" not in os.environ, reason="AINODE_DATA names no data folder")
def test_odd_files_of_real_devices_are_kept_byte_for_byte_or_refused_in_words(node: Node) -> None:
    data = Path(os.environ["AINODE_DATA"])
    kept, refused = {}, {}
    for path in sorted([*(data / "zoo").glob("*.dcm"), *(data / "studies" / "broken").glob("*.dcm")]):
        try:
            meta, offset = read_file_meta_info(path), dataset_offset(path)
        except (InputError, InvalidDicomError, OSError):
            continue  # no sender could send it either
        content = path.read_bytes()[offset:]
        sender = associate(node, [(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)])
        if not sender.accepted_contexts:
            continue  # the one retired JPEG process that nobody can decode
        response = send(sender, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, content)
        sender.release()
        if response.Status == 0x0000:
            kept.setdefault(str(meta.MediaStorageSOPInstanceUID), content)  # some come twice, in two encodings
        else:
            refused[path.name] = response.ErrorComment
    assert len(kept) >= 20
    assert all(refused.values())
    assert "lidc-idri-0001-1-084-truncated.dcm" in refused
    rows = {row.sop_instance_uid: node.spool.absolute(row.path) for row in node.rows(instance)}
    assert {uid: path.read_bytes()[dataset_offset(path) :] for uid, path in rows.items()} == kept


# --- who opens connections ----------------------------------------------------------------------------------------


def test_a_calling_title_outside_the_repertoire_may_store(node: Node) -> None:
    with connection(node) as opened:
        opened.sendall(associate_rq(RAW_CT, calling="KLINIK_MÜN".encode("latin-1")))
        assert answer(opened)[0] == 2  # A-ASSOCIATE-AC
    assert store_works(node)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        bytes(500),
        b"\1\0\0\0\0\4\0\1\0\0",
        b"\4\0",
    ],
    ids=["http", "tls", "zeros", "short-rq", "half-header"],
)
def test_what_is_no_dicom_is_cut_off_and_others_are_served(tmp_path: Path, garbage: bytes) -> None:
    with receiving(tmp_path / "node", ae="association_timeout_seconds = 0.5\nnetwork_timeout_seconds = 1.0") as node:
        with connection(node) as opened:
            opened.sendall(garbage)
            assert store_works(node)
            opened.settimeout(10.0)
            while answer(opened):
                pass
        assert store_works(node)


def test_silent_connections_do_not_use_up_the_limit_of_associations(tmp_path: Path) -> None:
    with receiving(tmp_path / "node", ae="max_associations = 4") as node, ExitStack() as silent:
        for _ in range(40):
            silent.enter_context(connection(node))
        begun = time.monotonic()
        assert store_works(node)
        assert time.monotonic() - begun < 5.0


def test_too_many_silent_connections_are_closed_at_once_and_the_rest_when_their_time_is_up(tmp_path: Path) -> None:
    limits = "max_associations = 4\nassociation_timeout_seconds = 2.0"
    with receiving(tmp_path / "node", ae=limits) as node, ExitStack() as silent:
        opened = [silent.enter_context(connection(node)) for _ in range(100)]
        until(lambda: sum(_closed(one) for one in opened) >= 100 - 4 - 64)
        until(lambda: all(_closed(one) for one in opened))
        assert store_works(node)


def _closed(opened: socket.socket) -> bool:
    opened.setblocking(False)
    try:
        return opened.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("trickle", [False, True], ids=["stalled", "one byte at a time"])
def test_a_peer_that_stalls_inside_a_pdu_is_cut_off(tmp_path: Path, trickle: bool) -> None:  # noqa: FBT001
    with receiving(tmp_path / "node", ae="network_timeout_seconds = 1.0") as node, connection(node) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert answer(opened)[0] == 2
        opened.sendall(p_data(3, bytes(10_000))[:500])
        begun = time.monotonic()
        opened.settimeout(0.2)
        while time.monotonic() - begun < 15.0:
            try:
                if trickle:
                    opened.sendall(b"x")
                if not opened.recv(100):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - begun < 5.0
        until(lambda: threading.active_count() < 8)
        assert store_works(node)


def test_an_idle_association_is_ended_and_its_row_closed(tmp_path: Path) -> None:
    with receiving(tmp_path / "node", ae="network_timeout_seconds = 1.0") as node:
        sender = associate(node, CT)
        assert send_dataset(sender, ct_series(1)[0]).Status == 0x0000
        until(lambda: node.rows(association)[0].closed_at)
        assert not sender.is_established


def test_idle_associations_cost_next_to_nothing(receiver_process: Callable[..., ReceiverProcess]) -> None:
    process = receiver_process()
    process.start()
    with ExitStack() as idle:
        for _ in range(20):
            opened = idle.enter_context(connection(process))
            opened.sendall(associate_rq(RAW_CT))
            assert answer(opened)[0] == 2
        time.sleep(1.5)
        before = process.cpu_seconds()
        time.sleep(3.0)
        used = process.cpu_seconds() - before
    assert used < 3.0 * 0.25, "looking 1000 times a second would take 0.6 of a core"


def test_a_pdu_of_four_gigabytes_is_not_waited_for(node: Node) -> None:
    with connection(node) as opened:
        opened.sendall(b"\1\0\xff\xff\xff\xff" + b"x" * 1000)
        assert answer(opened) == b""
    assert store_works(node)


def test_a_connection_reset_in_the_middle_of_an_image_leaves_nothing(node: Node) -> None:
    with connection(node) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert answer(opened)[0] == 2
        opened.sendall(c_store_begin())
        time.sleep(0.2)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert store_works(node)
    assert len(node.files()) == 1


def test_more_than_1024_open_files_do_no_harm(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    try:
        with receiving(tmp_path / "node") as node, ExitStack() as held:
            for _ in range(1100):
                held.enter_context((tmp_path / "held").open("a"))
            done = dcmtk("echoscu", "-aec", "AINODE", "127.0.0.1", node.port)
            assert done.returncode == 0, done.stdout
            (path,) = write(ct_series(1), tmp_path / "out")
            assert dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, path).returncode == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- what may go wrong inside -------------------------------------------------------------------------------------


def test_a_slow_answer_does_not_end_the_association(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = Spool.keep

    def slowly(self: Spool, *arguments: Any) -> Any:
        time.sleep(1.5)
        return keep(self, *arguments)

    with receiving(tmp_path / "node", ae="network_timeout_seconds = 1.0") as node:
        sender = associate(node, CT)
        monkeypatch.setattr(Spool, "keep", slowly)
        assert send_dataset(sender, ct_series(1)[0]).Status == 0x0000
        assert send_dataset(sender, ct_series(1)[0]).Status == 0x0000
        sender.release()


def test_a_fault_of_the_node_is_answered_and_leaves_no_temporary(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_self: Spool, _temporary: Path, _path: str) -> bool:
        raise RuntimeError("a fault")

    sender = associate(node, CT)
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "_link", broken)
        assert send_dataset(sender, ct_series(1)[0]).Status == 0x0110
    assert "a fault" in caplog.text
    assert nothing_kept(node)
    assert send_dataset(sender, ct_series(1)[0]).Status == 0x0000
    sender.release()


def test_a_ledger_that_is_away_stops_nobody_until_too_many_rows_wait(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "ROWS_BEHIND", 5)
    images = ct_series(8, 16)
    with begin_immediate(node.engine) as connection_:
        connection_.execute(sa.text("ALTER TABLE instance RENAME TO gone"))
    sender = associate(node, CT)
    statuses = [send_dataset(sender, dataset).Status for dataset in images]
    assert statuses == [0x0000] * 5 + [0xA700] * 3
    refused = send_dataset(sender, images[0])
    assert (refused.Status, refused.ErrorComment) == (0xA700, "ledger cannot be written now; send again")
    with begin_immediate(node.engine) as connection_:
        connection_.execute(sa.text("ALTER TABLE gone RENAME TO instance"))
    until(lambda: len(node.rows(instance)) == 5)
    assert [send_dataset(sender, dataset).Status for dataset in images] == [0x0000] * 8
    sender.release()
    assert node.files() == sorted(row.path for row in node.rows(instance))
    until(lambda: all(row.closed_at for row in node.rows(association)))


def test_a_store_under_way_is_answered_before_the_receiver_stops(tmp_path: Path) -> None:
    with receiving(tmp_path / "first") as other:
        config = other.config
    engine, spool = Node(config).engine, Spool(config.storage.folder)
    receiver = Receiver(config, engine, spool)
    receiver.start()
    node = Node(config)
    dataset = ct_series(1, 64)[0]
    data, half = encode(dataset), 4000
    with connection(node) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert answer(opened)[0] == 2
        command = Dataset()
        command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = CTImageStorage, dataset.SOPInstanceUID
        command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 1, 0, 1
        opened.sendall(p_data(3, encode_command(command)) + p_data(0, data[:half]))
        time.sleep(0.3)
        stopping = threading.Thread(target=receiver.stop)
        stopping.start()
        time.sleep(0.5)
        assert stopping.is_alive()
        opened.sendall(p_data(2, data[half:]))
        response = answer(opened)
        assert response[0] == 4  # P-DATA-TF with the C-STORE-RSP
        assert b"\0\0\0\x09\2\0\0\0\0\0" in response  # (0000,0900) Status 0x0000
        assert answer(opened)[0] == 7  # A-ABORT
        stopping.join(10.0)
        assert not stopping.is_alive()
    assert [row.sop_instance_uid for row in node.rows(instance)] == [dataset.SOPInstanceUID]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", config.ae.port), 1.0)


def test_a_stop_does_not_wait_for_silent_and_stalled_peers(tmp_path: Path) -> None:
    with ExitStack() as held:
        with receiving(tmp_path / "node") as node:
            held.enter_context(connection(node))
            stalled = held.enter_context(connection(node))
            stalled.sendall(associate_rq(RAW_CT))
            assert answer(stalled)[0] == 2
            stalled.sendall(c_store_begin())
            idle = associate(node, CT)
            assert idle.is_established
            time.sleep(0.3)
            begun = time.monotonic()
        assert time.monotonic() - begun < 9.0  # its grace is 2 s
        until(lambda: not any("association-" in thread.name for thread in threading.enumerate()))
