"""Peers that cut messages in odd ways or break the rules of PS3.8: served where it allows that, else aborted."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dicom_files import ct_series
from drawn_examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom.sop_class import Verification
from raw_peer import (
    COMMAND,
    COMMAND_MORE,
    LAST,
    MORE,
    RAW_CT,
    abort,
    answer,
    associated,
    c_store,
    c_store_begin,
    connection,
    encode_command,
    p_data,
    pdu,
    pdv,
    status,
)
from receivers import SOON_SECONDS, Node, ReceiverProcess, associate_rq, encode, receiving, until

from node.ledger.tables import association, instance
from node.receive.pdu_stream import PduStream
from node.spool import Spool, dataset_offset

DATASET = ct_series(1, 32)[0]
UID = str(DATASET.SOPInstanceUID)
DATA = encode(DATASET)
RELEASE_RQ, RELEASE_RP = pdu(5, bytes(4)), pdu(6, bytes(4))
INVALID_PARAMETER = abort(2, 6)


def kept(node: Node) -> dict[str, bytes]:
    """SOP Instance UID -> data set on disk."""
    paths = {row.sop_instance_uid: node.spool.absolute(row.path) for row in node.rows(instance)}
    return {uid: path.read_bytes()[dataset_offset(path) :] for uid, path in paths.items()}


@pytest.fixture(autouse=True)
def _nothing_stays(node: Node) -> Iterator[None]:
    """Whatever the peer did: no temporary, no thread, no open association, and the next sender is served."""
    yield
    with associated(node) as opened:
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA))
        assert status(answer(opened)) == 0x0000
    assert node.files() == [row.path for row in node.rows(instance)]
    assert kept(node) == {UID: DATA}
    until(lambda: not any(thread.name.startswith("association-") for thread in threading.enumerate()))
    until(lambda: all(row.closed_at for row in node.rows(association)))


# --- odd, but allowed ---------------------------------------------------------------------------------------------


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_command_and_data_set_may_be_split_anywhere(node: Node) -> None:
    command, data = split(c_store(UID), 1), split(DATA, 3)
    with associated(node) as opened:
        opened.sendall(b"".join(p_data(COMMAND_MORE, part) for part in command[:-1]))
        opened.sendall(p_data(COMMAND, command[-1]))
        opened.sendall(b"".join(p_data(MORE, part) for part in data))
        opened.sendall(p_data(LAST, b""))
        assert status(answer(opened)) == 0x0000
    assert kept(node) == {UID: DATA}


def test_what_comes_in_small_pieces_is_handed_over_in_one() -> None:
    sent = bytes(range(250)) * 400
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = PduStream(listening.accept()[0], 5.0)
        sender = threading.Thread(target=lambda: [peer.sendall(piece) for piece in split(pdu(4, sent), 500)])
        sender.start()
        assert stream.header(idle=5.0, whole=5.0) == (4, len(sent))
        assert bytes(stream.read_part(len(sent))) == sent
        sender.join()
        stream.close()


def test_two_messages_in_one_pdu_are_both_answered(node: Node) -> None:
    message = pdv(COMMAND, c_store(UID)) + pdv(MORE, DATA[:100]) + pdv(LAST, DATA[100:])
    with associated(node) as opened:
        opened.sendall(pdu(4, message + message))
        assert [status(answer(opened)), status(answer(opened))] == [0x0000, 0x0000]
        opened.sendall(RELEASE_RQ)
        assert answer(opened) == RELEASE_RP


def test_a_store_that_arrives_one_byte_at_a_time_is_kept(node: Node) -> None:
    with connection(node) as opened:
        for part in split(associate_rq(RAW_CT) + p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA), 1):
            opened.sendall(part)
        assert answer(opened)[0] == 2
        assert status(answer(opened)) == 0x0000
    assert kept(node) == {UID: DATA}


def test_messages_alternate_between_contexts(node: Node) -> None:
    with associated(node) as opened:
        for context_id in (1, 3, 1):
            opened.sendall(p_data(COMMAND, c_store(UID), context_id) + p_data(LAST, DATA, context_id))
            response = answer(opened)
            assert (status(response), response[10]) == (0x0000, context_id)


def test_a_c_store_without_data_set_is_refused_and_the_association_lives_on(node: Node) -> None:
    with associated(node) as opened:
        opened.sendall(p_data(COMMAND, c_store(UID, CommandDataSetType=0x0101)))
        assert status(answer(opened)) == 0xC000
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, b""))
        assert status(answer(opened)) == 0xC001
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA))
        assert status(answer(opened)) == 0x0000


def test_what_is_refused_at_its_command_is_read_to_its_end(node: Node) -> None:
    with associated(node) as opened:
        opened.sendall(p_data(COMMAND, c_store("../../evil")) + p_data(MORE, bytes(500_000)) + p_data(LAST, DATA))
        assert status(answer(opened)) == 0xC001
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA))
        assert status(answer(opened)) == 0x0000


def test_a_peer_that_takes_tiny_pdus_only_gets_tiny_pdus(node: Node) -> None:
    request = associate_rq([(Verification, ["1.2.840.10008.1.2"])])
    length = (16384).to_bytes(4, "big")
    assert request.count(length) == 1
    echo = Dataset()
    echo.AffectedSOPClassUID, echo.CommandField, echo.MessageID = Verification, 0x0030, 5
    echo.CommandDataSetType = 0x0101
    with connection(node) as opened:
        opened.sendall(request.replace(length, (16).to_bytes(4, "big")))
        assert answer(opened)[0] == 2
        opened.sendall(p_data(COMMAND, encode_command(echo)))
        whole, last = b"", False
        while not last:
            part = answer(opened)
            assert part[0] == 4
            assert len(part) - 6 <= 16
            whole += part[12:]
            last = bool(part[11] & 2)
    assert status(b"\4" + whole) == 0x0000


def test_an_unknown_operation_is_answered_and_what_asks_for_nothing_is_not(node: Node) -> None:
    with associated(node) as opened:
        opened.sendall(p_data(COMMAND, c_store(UID, CommandField=0x0020, CommandDataSetType=0x0101)))
        assert status(answer(opened)) == 0x0211
        for field in (0x0FFF, 0x8001):  # C-CANCEL-RQ, C-STORE-RSP
            opened.sendall(p_data(COMMAND, c_store(UID, CommandField=field, CommandDataSetType=0x0101)))
        opened.sendall(RELEASE_RQ)
        assert answer(opened) == RELEASE_RP


# --- against the rules --------------------------------------------------------------------------------------------

BEGUN = p_data(COMMAND, c_store(UID)) + p_data(MORE, DATA[:100])


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(BEGUN + p_data(MORE, DATA[100:], context_id=3), id="fragments interleaved over contexts"),
        pytest.param(p_data(COMMAND_MORE, b"\0\0") + p_data(COMMAND, c_store(UID), context_id=3), id="command too"),
        pytest.param(BEGUN + p_data(COMMAND, c_store(UID)), id="command in a data set"),
        pytest.param(p_data(LAST, DATA), id="data set without command"),
        pytest.param(p_data(COMMAND_MORE, c_store(UID)) + p_data(LAST, DATA), id="data set in a command"),
        pytest.param(p_data(COMMAND, c_store(UID), context_id=5), id="context never accepted"),
        pytest.param(p_data(COMMAND, b"no command set"), id="garbage as command"),
        pytest.param(p_data(COMMAND, b""), id="empty command"),
        pytest.param(BEGUN + pdu(4, b"\0\0\0\0\1\0"), id="PDV of length 0"),
        pytest.param(BEGUN + pdu(4, b"\0\0\0\1\1\0"), id="PDV of length 1"),
        pytest.param(BEGUN + pdu(4, b"\0\0\0\x09\1\0" + b"x" * 6), id="PDV longer than its PDU"),
        pytest.param(BEGUN + pdu(4, b"\xff\xff\xff\xff\1\0" + b"x" * 6), id="PDV of 4 GiB"),
        pytest.param(BEGUN + pdu(4, pdv(MORE, b"x") + b"\0\0\0"), id="PDU with a rest"),
        pytest.param(BEGUN + b"\4\0\xff\xff\xff\xff", id="PDU of 4 GiB"),
        pytest.param(p_data(COMMAND_MORE, bytes(60_000)) + p_data(COMMAND_MORE, bytes(60_000)), id="endless command"),
    ],
)
def test_a_broken_message_ends_the_association_as_the_standard_says_and_leaves_nothing(node: Node, sent: bytes) -> None:
    with associated(node) as opened:
        opened.sendall(sent)
        assert answer(opened) == INVALID_PARAMETER
    assert node.rows(instance) == []


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        pytest.param(RELEASE_RP, abort(2, 2), id="release answer that nobody asked for"),
        pytest.param(associate_rq(RAW_CT), abort(2, 2), id="second A-ASSOCIATE-RQ"),
        pytest.param(pdu(2, bytes(68)), abort(2, 2), id="A-ASSOCIATE-AC"),
        pytest.param(pdu(9, b""), abort(2, 1), id="unknown PDU"),
        pytest.param(p_data(COMMAND, c_store(UID, MessageID=None)), abort(0, 0), id="request without Message ID"),
    ],
)
def test_an_unexpected_pdu_ends_an_association(node: Node, sent: bytes, answered: bytes) -> None:
    with associated(node) as opened:
        opened.sendall(sent)
        assert answer(opened) == answered


@pytest.mark.parametrize("sent", [p_data(LAST, DATA), RELEASE_RQ, pdu(2, bytes(68)), pdu(1, b"\0\1"), pdu(9, b"")])
def test_without_an_association_all_else_is_aborted_by_the_service_user(node: Node, sent: bytes) -> None:
    with connection(node) as opened:
        opened.sendall(sent)
        assert answer(opened) == abort(0, 0)


def test_another_protocol_version_is_rejected(node: Node) -> None:
    with connection(node) as opened:
        request = associate_rq(RAW_CT)
        opened.sendall(request[:6] + b"\0\2" + request[8:])
        assert answer(opened) == pdu(3, bytes((0, 1, 2, 2)))


def test_what_comes_after_an_abort_is_ignored(node: Node) -> None:
    with associated(node) as opened:
        opened.sendall(RELEASE_RP)
        assert answer(opened) == abort(2, 2)
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA))
        opened.settimeout(0.3)
        with pytest.raises(TimeoutError):
            opened.recv(1)
    assert node.rows(instance) == []


@pytest.mark.parametrize("end", [pdu(7, bytes(4)), b""], ids=["A-ABORT", "closed"])
def test_a_peer_that_gives_up_in_the_middle_of_an_image_leaves_nothing(node: Node, end: bytes) -> None:
    with associated(node) as opened:
        opened.sendall(c_store_begin())
        until(lambda: len(node.files()) == 1)
        opened.sendall(end)
    until(lambda: node.files() == [])
    assert node.rows(instance) == []


def test_a_release_in_the_middle_of_an_image_is_answered_and_nothing_is_kept(node: Node) -> None:
    with associated(node) as opened:
        opened.sendall(c_store_begin() + RELEASE_RQ)
        assert answer(opened) == RELEASE_RP
        until(lambda: node.files() == [])
    assert node.rows(instance) == []


def test_a_peer_that_never_closes_after_its_release_is_cut_off(tmp_path: Path) -> None:
    with receiving(tmp_path / "other", ae="association_timeout_seconds = 0.5") as other, associated(other) as opened:
        opened.sendall(RELEASE_RQ)
        assert answer(opened) == RELEASE_RP
        begun = time.monotonic()
        assert answer(opened) == b""
        assert 0.3 < time.monotonic() - begun < SOON_SECONDS


FRAGMENTS = st.builds(
    p_data,
    st.sampled_from([MORE, LAST, COMMAND_MORE, COMMAND, 0xFF]),
    st.one_of(
        st.sampled_from(
            [c_store(UID), c_store(UID, CommandDataSetType=0x0101), c_store("1.2.3"), DATA, DATA[:99], b""]
        ),
        st.binary(max_size=40),
    ),
    st.sampled_from([1, 1, 1, 3, 0, 255]),
)
BYTES = st.one_of(FRAGMENTS, FRAGMENTS, st.sampled_from([RELEASE_RQ, BEGUN, pdu(7, bytes(4))]), st.binary(max_size=20))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(150), deadline=None)
@given(sent=st.lists(BYTES, max_size=8), is_associated=st.booleans())
def test_no_sequence_of_pdus_leaves_anything_behind(node: Node, sent: list[bytes], is_associated: bool) -> None:  # noqa: FBT001
    # What is whole may be kept; that nothing else is there in the end, and that others are served, the fixture checks.
    with (associated if is_associated else connection)(node) as opened:
        with suppress(OSError):  # the node may close at any time
            for part in sent:
                opened.sendall(part)
            opened.shutdown(socket.SHUT_WR)
        while answer(opened):
            pass


def test_a_fault_of_the_node_at_the_command_is_answered_after_the_data_set(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: Spool) -> float:
        raise OSError("a fault")

    with associated(node) as opened:
        with monkeypatch.context() as patched:
            patched.setattr(Spool, "space", broken)
            opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(MORE, DATA) + p_data(LAST, b""))
            assert status(answer(opened)) == 0x0110
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA))
        assert status(answer(opened)) == 0x0000


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_instance(receiver_process: Callable[..., ReceiverProcess]) -> None:
    size, part = 300 << 20, 100_000
    process = receiver_process()
    process.start()
    small = Dataset({e.tag: e for e in DATASET if e.keyword != "PixelData"})
    head = encode(small) + b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little")
    with associated(process) as opened:
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA))
        assert status(answer(opened)) == 0x0000
        before = peak_mib(process)
        opened.settimeout(120.0)
        other = small.SOPInstanceUID = "1.2.3.4"
        head = encode(small) + head[len(head) - 12 :]
        opened.sendall(p_data(COMMAND, c_store(other)) + p_data(MORE, head))
        fragment = p_data(MORE, bytes(part))
        for _ in range(size // part):
            opened.sendall(fragment)
        opened.sendall(p_data(LAST, bytes(size % part)))
        assert status(answer(opened)) == 0x0000
    assert peak_mib(process) - before < 16.0
    rows = process.node().rows(instance)
    assert max(row.size for row in rows) > size
    assert {row.sop_class_uid for row in rows} == {CTImageStorage}


def peak_mib(process: ReceiverProcess) -> float:
    """Most memory that the process ever had resident, MiB."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024
