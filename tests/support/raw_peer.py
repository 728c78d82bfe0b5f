"""A peer that sends whatever bytes a test wants: PDUs, Presentation Data Values, command sets (PS3.8 9.3)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import Node, ReceiverProcess, associate_rq
from supervised import Supervised

RAW_CT = [(CTImageStorage, [ExplicitVRLittleEndian])]
MORE, LAST = 0, 2
"""Fragments of a data set."""
COMMAND_MORE, COMMAND = 1, 3


@contextmanager
def connection(node: Node | ReceiverProcess | Supervised) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", node.port), 20.0) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield opened


@contextmanager
def associated(node: Node | ReceiverProcess | Supervised) -> Iterator[socket.socket]:
    """A connection with CT in context 1 and again in context 3."""
    with connection(node) as opened:
        opened.sendall(associate_rq([*RAW_CT, *RAW_CT]))
        assert answer(opened)[0] == 2
        yield opened


def refused(node: Node | ReceiverProcess | Supervised, called: str = "AINODE") -> tuple[int, int, int]:
    """Result, source and reason with which an association is rejected (PS3.8 9.3.4).

    pynetdicom loses a rejection that comes before its thread has seen the connection stand.
    """
    with connection(node) as opened:
        opened.sendall(associate_rq(RAW_CT, called=called.encode()))
        pdu = answer(opened)
        assert pdu[:1] == b"\3", pdu
        return pdu[7], pdu[8], pdu[9]


def answer(opened: socket.socket) -> bytes:
    """The next PDU; empty when the node closed the connection."""
    try:
        head = opened.recv(6, socket.MSG_WAITALL)
        return head + opened.recv(int.from_bytes(head[2:6], "big"), socket.MSG_WAITALL)
    except ConnectionError:
        return b""


def status(pdu: bytes) -> int:
    """(0000,0900) Status of a response in one P-DATA-TF."""
    assert pdu[:1] == b"\4", pdu
    start = pdu.index(b"\0\0\0\x09\2\0\0\0") + 8
    return int.from_bytes(pdu[start : start + 2], "little")


def abort(source: int, reason: int) -> bytes:
    """The A-ABORT (PS3.8 9.3.8)."""
    return bytes((7, 0, 0, 0, 0, 4, 0, 0, source, reason))


def pdv(header: int, fragment: bytes, context_id: int = 1) -> bytes:
    return (len(fragment) + 2).to_bytes(4, "big") + bytes([context_id, header]) + fragment


def pdu(kind: int, body: bytes) -> bytes:
    return bytes([kind, 0]) + len(body).to_bytes(4, "big") + body


def p_data(header: int, fragment: bytes, context_id: int = 1) -> bytes:
    return pdu(4, pdv(header, fragment, context_id))


def encode_command(command: Dataset) -> bytes:
    from pynetdicom.dsutils import encode as encode_dataset

    command.CommandGroupLength = 0
    body = encode_dataset(command, is_implicit_vr=True, is_little_endian=True)
    assert body is not None
    return body


def c_store(sop_instance_uid: str = "1.2.3", **values: int | str | None) -> bytes:
    """The command set of a C-STORE-RQ of a CT; ``None`` leaves an element out."""
    command = Dataset()
    for keyword, value in {
        "AffectedSOPClassUID": CTImageStorage,
        "CommandField": 0x0001,
        "MessageID": 1,
        "Priority": 0,
        "CommandDataSetType": 1,
        "AffectedSOPInstanceUID": sop_instance_uid,
        **values,
    }.items():
        if value is not None:
            setattr(command, keyword, value)
    return encode_command(command)


def c_store_begin(size: int = 100_000) -> bytes:
    """A C-STORE-RQ of a CT, its command and the first ``size`` bytes of its data set, the last fragment missing."""
    return p_data(COMMAND, c_store()) + b"".join(p_data(MORE, bytes(10_000)) for _ in range(size // 10_000))


def from_address(port: int, address: str) -> socket.socket:
    """A connection from an address of the loopback network."""
    return socket.create_connection(("127.0.0.1", port), 20.0, source_address=(address, 0))


def is_closed(opened: socket.socket) -> bool:
    """Whether the node has closed the connection."""
    opened.setblocking(False)
    try:
        return opened.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
