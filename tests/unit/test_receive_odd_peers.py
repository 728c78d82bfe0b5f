"""Peers that propose more than this node knows, misuse what they may say, or open connections for nothing."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from dicom_files import ct_series
from fuzz_receive import corpus, split
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from raw_peer import (
    COMMAND,
    LAST,
    RAW_CT,
    abort,
    answer,
    associated,
    c_store,
    connection,
    encode_command,
    p_data,
    pdu,
    status,
)
from receivers import SOON_SECONDS, Node, associate_rq, encode, receiving, until

from node.ledger.tables import instance

DATASET = ct_series(1, 32)[0]
UID, DATA = str(DATASET.SOPInstanceUID), encode(DATASET)
RELEASE_RQ, RELEASE_RP = pdu(5, bytes(4)), pdu(6, bytes(4))


def item(kind: int, value: bytes) -> bytes:
    return bytes([kind, 0]) + len(value).to_bytes(2, "big") + value


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


CT = CTImageStorage.encode()
ODD = {
    "asynchronous operations window": item(0x53, b"\0\x05\0\x05"),
    "role selection": item(0x54, text(CT) + b"\1\1"),
    "SOP class extended negotiation": item(0x56, text(CT) + b"\1\0\1\0\0\0"),
    "SOP class common extended negotiation": item(0x57, text(CT) + text(b"1.2.840.10008.4.2") + text(text(b"1.2.3"))),
    "user identity": item(0x58, b"\2\1" + text(b"user") + text(b"word")),
    "user identity, SAML": item(0x58, b"\4\0" + text(b"<saml/>") + text(b"")),
    "unknown item": item(0x5F, b"what is this") + item(0xFE, b""),
}


def with_information(more: bytes) -> bytes:
    """An A-ASSOCIATE-RQ of a CT with more user information."""
    request = associate_rq(RAW_CT)
    start = request.rindex(b"\x50\0")
    return pdu(1, request[6:start] + item(0x50, request[start + 4 :] + more))


@pytest.mark.parametrize("more", [*ODD.values(), b"".join(ODD.values())], ids=[*ODD, "all"])
def test_what_a_peer_proposes_beyond_our_services_is_no_obstacle(node: Node, more: bytes) -> None:
    with connection(node) as opened:
        opened.sendall(with_information(more))
        accepted = answer(opened)
        assert accepted[0] == 2
        decoded = A_ASSOCIATE_AC()
        decoded.decode(accepted)
        assert [context.result for context in decoded.presentation_context] == [0]
        # No window is negotiated, so the defaults hold: one operation at a time (PS3.7 D.3.3.3).
        assert b"\x53\0\0\4" not in accepted
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA) + RELEASE_RQ)
        assert status(answer(opened)) == 0x0000
        assert answer(opened) == RELEASE_RP


def test_an_unknown_item_beside_the_known_ones_is_ignored(node: Node) -> None:
    request = associate_rq(RAW_CT)
    with connection(node) as opened:
        opened.sendall(pdu(1, request[6:] + item(0x77, b"an item of the future")))
        assert answer(opened)[0] == 2


@pytest.mark.parametrize(
    "more",
    [
        item(0x54, b"\0\xff" + CT),
        b"\x51\0\0\4",
        b"\x53\0\xff\xff\0",
        item(0x51, b"\0"),
    ],
    ids=["role", "ends early", "too long", "short length"],
)
def test_a_broken_item_ends_in_an_abort_and_not_in_a_fault_of_ours(
    node: Node, more: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with connection(node) as opened:
        opened.sendall(with_information(more))
        assert answer(opened) == abort(0, 0)
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    "information",
    [b"\x08\x00\x99\x11UI\x04\x001.2.", b"\x08\x00\x97\x11US\x03\x00abc"],
    ids=["sequence that is none", "number of three bytes"],
)
def test_a_broken_storage_commitment_report_is_the_peer_s_fault(
    node: Node, information: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    report = Dataset()
    report.AffectedSOPClassUID = StorageCommitmentPushModel
    report.AffectedSOPInstanceUID = StorageCommitmentPushModelInstance
    report.CommandField, report.MessageID, report.CommandDataSetType, report.EventTypeID = 0x0100, 1, 1, 1
    with connection(node) as opened:
        opened.sendall(associate_rq([(StorageCommitmentPushModel, [ExplicitVRLittleEndian])]))
        assert answer(opened)[0] == 2
        opened.sendall(p_data(COMMAND, encode_command(report)) + p_data(LAST, information))
        assert status(answer(opened)) == 0x0115  # invalid argument value
    assert not any(record.exc_info for record in caplog.records)


# --- misuse -------------------------------------------------------------------------------------------------------


def test_message_ids_may_repeat_and_each_answer_names_its_own(node: Node) -> None:
    with associated(node) as opened:
        for message_id in (0, 7, 7, 65535):
            opened.sendall(p_data(COMMAND, c_store(UID, MessageID=message_id)) + p_data(LAST, DATA))
            response = answer(opened)
            assert status(response) == 0x0000
            assert struct.pack("<HHLH", 0, 0x0120, 2, message_id) in response
    assert len(node.rows(instance)) == 1


def test_operations_sent_without_waiting_are_answered_one_after_the_other(node: Node) -> None:
    with associated(node) as opened:
        for message_id in range(1, 6):
            opened.sendall(p_data(COMMAND, c_store(UID, MessageID=message_id)) + p_data(LAST, DATA))
        for message_id in range(1, 6):
            response = answer(opened)
            assert status(response) == 0x0000
            assert struct.pack("<HHLH", 0, 0x0120, 2, message_id) in response


@pytest.mark.parametrize(
    "after",
    [
        RELEASE_RQ,
        RELEASE_RP,
        p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA),
        pdu(7, bytes(4)),
        associate_rq(RAW_CT),
        bytes(100),
    ],
    ids=["again", "collision", "store", "abort", "associate", "zeros"],
)
def test_nothing_that_follows_a_release_is_served(node: Node, after: bytes) -> None:
    with associated(node) as opened:
        opened.sendall(RELEASE_RQ + after)
        assert answer(opened) == RELEASE_RP
        opened.shutdown(socket.SHUT_WR)
        assert answer(opened) == b""
    assert node.rows(instance) == []
    until(lambda: not any(thread.name.startswith("association-") for thread in threading.enumerate()))


# --- connections for nothing --------------------------------------------------------------------------------------


def _open_connections() -> int:
    """Descriptors of this process but those of files: the ledger opens some of these when two threads write at once."""
    number = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this listing
            number += not str(path.readlink()).startswith("/")
    return number


def test_a_thousand_connections_in_a_row_leave_nothing_and_nobody_waits(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    before = _open_connections()
    reset = struct.pack("ii", 1, 0)
    for number in range(1000):
        with socket.create_connection(("127.0.0.1", node.port), 20.0) as opened:
            if number % 2:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)  # as a port scan ends
    begun = time.monotonic()
    with associated(node) as opened:
        opened.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA))
        assert status(answer(opened)) == 0x0000
    assert time.monotonic() - begun < SOON_SECONDS
    until(lambda: not any(thread.name.startswith("association-") for thread in threading.enumerate()))
    until(lambda: _open_connections() <= before)
    assert not any(record.exc_info for record in caplog.records)


def test_connections_that_the_peer_has_half_closed_are_closed(tmp_path: Path) -> None:
    timers = "association_timeout_seconds = 1.0\nnetwork_timeout_seconds = 1.0"
    with receiving(tmp_path / "node", ae=timers) as node, ExitStack() as held:
        silent = [held.enter_context(associated(node)) for _ in range(10)]
        for opened in silent[:5]:
            opened.shutdown(socket.SHUT_WR)
        for opened in silent[5:]:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # it will take nothing, and never says a word
        until(lambda: not any(thread.name.startswith("association-") for thread in threading.enumerate()))


def test_every_sequence_of_the_corpus_gets_an_end_however_it_is_cut(node: Node) -> None:
    for sequence in corpus("pdu"):
        for size in (1, 7, 4096):
            with connection(node) as opened, suppress(OSError):
                for start in range(0, len(sequence), size):
                    opened.sendall(sequence[start : start + size])
                opened.shutdown(socket.SHUT_WR)
                answers = b""
                while part := opened.recv(4096):
                    answers += part
                assert all(len(answer) >= 6 and answer[0] in {2, 3, 4, 6, 7} for answer in split(answers))
    until(lambda: not any(thread.name.startswith("association-") for thread in threading.enumerate()))
