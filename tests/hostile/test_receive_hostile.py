"""Peers that are broken, silent, slow or hostile: they are cut off, and nobody else notices them."""

from __future__ import annotations

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
from dicom_files import ct_series, write
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
)
from raw_peer import RAW_CT, answer, c_store_begin, connection, encode_command, is_closed, p_data
from real_peers import dcmtk
from receivers import (
    SOON_SECONDS,
    Node,
    ReceiverProcess,
    associate,
    associate_rq,
    encode,
    member,
    nothing_kept,
    receiving,
    send_dataset,
    store_works,
    until,
)

from node.ledger.engine import begin_immediate
from node.ledger.tables import association, instance
from node.receive import row_writer
from node.receive.receiver import Receiver
from node.spool import Spool
from node.spool.durable_links import DurableLinks

pytestmark = pytest.mark.filterwarnings("ignore:.*(UI|UID|AE|Invalid value).*:UserWarning")

CT: list[tuple[str, Any]] = [(CTImageStorage, ExplicitVRLittleEndian)]


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
    with (
        receiving(
            tmp_path / "node",
            ae="max_associations = 4\nconnections_per_address = 0\nassociation_timeout_seconds = 60.0",
        ) as node,
        ExitStack() as silent,
    ):
        for _ in range(40):
            silent.enter_context(connection(node))
        begun = time.monotonic()
        assert store_works(node)
        assert time.monotonic() - begun < SOON_SECONDS


def test_too_many_silent_connections_are_closed_at_once_and_the_rest_when_their_time_is_up(tmp_path: Path) -> None:
    limits = "max_associations = 4\nconnections_per_address = 0\nassociation_timeout_seconds = 2.0"
    with receiving(tmp_path / "node", ae=limits) as node, ExitStack() as silent:
        opened = [silent.enter_context(connection(node)) for _ in range(100)]
        until(lambda: sum(is_closed(peer) for peer in opened) >= 100 - 4 - 64)
        until(lambda: all(is_closed(peer) for peer in opened))
        assert store_works(node)


@pytest.mark.parametrize("trickle", [False, True], ids=["stalled", "one byte at a time"])
def test_a_peer_that_stalls_inside_a_pdu_is_cut_off(tmp_path: Path, trickle: bool) -> None:  # noqa: FBT001
    with receiving(tmp_path / "node", ae="network_timeout_seconds = 1.0") as node, connection(node) as opened:
        before = threading.active_count()
        opened.sendall(associate_rq(RAW_CT))
        assert answer(opened)[0] == 2
        opened.sendall(p_data(3, bytes(10_000))[:500])
        begun = time.monotonic()
        opened.settimeout(0.2)
        while time.monotonic() - begun < 60.0:
            try:
                if trickle:
                    opened.sendall(b"x")
                if not opened.recv(100):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - begun < SOON_SECONDS
        until(lambda: threading.active_count() <= before)
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
        until(lambda: len(node.files()) == 1)
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
            dcmtk("echoscu", "-aec", "AINODE", "127.0.0.1", node.port)
            (path,) = write(ct_series(1), tmp_path / "out")
            dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, path)
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
    def broken(_self: DurableLinks, _temporary: Path, _path: str) -> bool:
        raise RuntimeError("a fault")

    sender = associate(node, CT)
    with monkeypatch.context() as patched:
        patched.setattr(DurableLinks, "add", broken)
        assert send_dataset(sender, ct_series(1)[0]).Status == 0x0110
    assert "a fault" in caplog.text
    assert nothing_kept(node)
    assert send_dataset(sender, ct_series(1)[0]).Status == 0x0000
    sender.release()


def test_a_ledger_that_is_away_stops_nobody_until_too_many_rows_wait(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_writer, "MOST_UNWRITTEN_ROWS", 5)
    images = ct_series(8, 16)
    with begin_immediate(node.engine) as connection_:
        connection_.execute(sa.text("ALTER TABLE instance RENAME TO gone"))
    sender = associate(node, CT)
    statuses = [send_dataset(sender, dataset).Status for dataset in images]
    assert statuses == [0x0000] * 5 + [0xA700] * 3
    refused = send_dataset(sender, images[0])
    assert (refused.Status, refused.ErrorComment) == (0xA700, "ledger cannot be written; send again later")
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
    receiver = Receiver(config, engine, spool, member(engine, spool))
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
        until(lambda: len(node.files()) == 1)
        stopping = threading.Thread(target=receiver.stop)
        stopping.start()
        time.sleep(0.5)
        assert stopping.is_alive()
        opened.sendall(p_data(2, data[half:]))
        response = answer(opened)
        assert response[0] == 4  # P-DATA-TF with the C-STORE-RSP
        assert b"\0\0\0\x09\2\0\0\0\0\0" in response  # (0000,0900) Status 0x0000
        assert answer(opened)[0] == 7  # A-ABORT
        stopping.join(60.0)
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
            until(lambda: len(node.files()) == 1)
            begun = time.monotonic()
        assert time.monotonic() - begun < SOON_SECONDS  # its grace is 2 s
        until(lambda: not any("association-" in thread.name for thread in threading.enumerate()))
