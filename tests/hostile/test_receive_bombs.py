"""Data sets that cost far more to read than to send are refused at receipt with the limit that they exceed."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from bombs import deep, deflated, header, item, pixels, private, sequence
from large_headers import LARGE
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from raw_peer import COMMAND, COMMAND_MORE, LAST, MORE, answer, associated, c_store, p_data, status
from receivers import SOON_SECONDS, ReceiverProcess, associate, deflate, encode, receiving, send, store_works, until

from node.ledger.tables import instance, refusal

GIB, MIB = 1 << 30, 1 << 20
EXPLICIT, IMPLICIT, BIG, DEFLATED = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
MILLION = 1_000_000


def items(syntax: str, *, undefined: bool = False, vr: bytes = b"SQ") -> bytes:
    inner = IMPLICIT if vr == b"UN" else syntax
    return header(syntax) + sequence(item(b"", inner) * MILLION, syntax, undefined=undefined, vr=vr)


def nested(syntax: str, *, undefined: bool, vr: bytes = b"SQ") -> bytes:
    if vr == b"UN":  # PS3.5 6.2.2: the content is in Implicit VR Little Endian
        return header(syntax) + sequence(item(deep(5000, IMPLICIT, undefined=undefined), IMPLICIT), syntax, vr=vr)
    return header(syntax) + deep(5000, syntax, undefined=undefined)


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "items": (EXPLICIT, lambda: items(EXPLICIT), "elements"),
    "items, undefined length": (EXPLICIT, lambda: items(EXPLICIT, undefined=True), "elements"),
    "items, implicit": (IMPLICIT, lambda: items(IMPLICIT), "elements"),
    "items, big endian": (BIG, lambda: items(BIG, undefined=True), "elements"),
    "items, deflated": (DEFLATED, lambda: deflated(items(EXPLICIT), 0), "elements"),
    "items, unknown VR": (EXPLICIT, lambda: items(EXPLICIT, vr=b"UN"), "elements"),
    "items behind the pixels": (
        EXPLICIT,
        lambda: header() + pixels(4) + bytes(4) + sequence(item() * MILLION),
        "elements",
    ),
    "fragments": (
        "1.2.840.10008.1.2.4.70",
        lambda: header() + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + item() * MILLION + b"\xfe\xff\xdd\xe0\0\0\0\0",
        "elements",
    ),
    "depth": (EXPLICIT, lambda: nested(EXPLICIT, undefined=False), "nested"),
    "depth, undefined length": (EXPLICIT, lambda: nested(EXPLICIT, undefined=True), "nested"),
    "depth, implicit": (IMPLICIT, lambda: nested(IMPLICIT, undefined=False), "nested"),
    "depth, implicit, undefined length": (IMPLICIT, lambda: nested(IMPLICIT, undefined=True), "nested"),
    "depth, big endian": (BIG, lambda: nested(BIG, undefined=True), "nested"),
    "depth, deflated": (DEFLATED, lambda: deflated(nested(EXPLICIT, undefined=True), 0), "nested"),
    "depth, unknown VR": (EXPLICIT, lambda: nested(EXPLICIT, undefined=False, vr=b"UN"), "nested"),
    "deflate, header": (DEFLATED, lambda: deflated(header() + private(GIB), GIB), "max_header_mib"),
    "deflate, pixels": (DEFLATED, lambda: deflated(header() + pixels(GIB), GIB), "max_inflated_mib"),
}


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    process = ReceiverProcess(tmp_path_factory.mktemp("receiver"))
    process.start()
    yield process
    process.kill()


def peak_mib(process: ReceiverProcess) -> int:
    status_file = Path(f"/proc/{process.pid}/status").read_text()
    return int(status_file.partition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_the_limit_and_costs_the_receiver_little(receiver: ReceiverProcess, name: str) -> None:
    syntax, made, words = BOMBS[name]
    data = made()
    sender = associate(receiver, [(CTImageStorage, syntax)])
    memory, seconds = peak_mib(receiver), receiver.cpu_seconds()
    response = send(sender, CTImageStorage, "1.2.3", data)
    sender.release()
    assert (response.Status, words in response.ErrorComment) == (0xC000, True), response.ErrorComment
    assert peak_mib(receiver) - memory < 64
    assert receiver.cpu_seconds() - seconds < 5.0, "reading it took 11 s and more"
    node = receiver.node()
    assert list(node.spool.folder.rglob("temporary/*/*")) == []
    until(lambda: [row for row in node.rows(refusal) if words in row.reason])
    assert not [row for row in node.rows(instance) if row.sop_instance_uid == "1.2.3"]


@pytest.mark.parametrize("name", LARGE)
def test_a_header_that_is_large_for_good_reasons_is_stored(receiver: ReceiverProcess, name: str) -> None:
    dataset, large = LARGE[name]()
    data = encode(dataset) + large + pixels(1024) + bytes(1024)
    sender = associate(receiver, [(dataset.SOPClassUID, EXPLICIT)])
    seconds = receiver.cpu_seconds()
    response = send(sender, dataset.SOPClassUID, dataset.SOPInstanceUID, data)
    assert response.Status == 0x0000, response.ErrorComment
    assert receiver.cpu_seconds() - seconds < 10.0
    sender.release()
    sender = associate(receiver, [(dataset.SOPClassUID, DEFLATED)])
    response = send(sender, dataset.SOPClassUID, dataset.SOPInstanceUID, deflate(data))
    assert response.Status == 0x0000, response.ErrorComment  # a conflict: the encoding changed
    sender.release()
    until(lambda: [r for r in receiver.node().rows(instance) if r.sop_instance_uid == dataset.SOPInstanceUID])


def test_an_instance_that_never_ends_is_refused_at_its_size_and_nothing_of_it_stays(tmp_path: Path) -> None:
    limit = f"min_free_gib = 0.0\nmax_instance_gib = {4 * MIB / GIB}"
    with receiving(tmp_path / "node", storage=limit) as node, associated(node) as sender:
        sender.sendall(p_data(COMMAND, c_store()) + p_data(MORE, header() + pixels(GIB)))
        largest = 0
        for _ in range(1000):
            sender.sendall(p_data(MORE, bytes(16000)))
            largest = max(largest, sum(p.stat().st_size for p in node.spool.folder.rglob("temporary/*/*")))
        assert 0 < largest < 5 * MIB
        until(lambda: node.files() == [])
        sender.sendall(p_data(LAST, b""))
        response = answer(sender)
        assert status(response) == 0xC000
        assert b"max_instance_gib" in response
        assert store_works(node)


@pytest.mark.parametrize("message", ["store", "command"])
def test_a_message_that_never_ends_is_aborted_when_its_time_is_up(tmp_path: Path, message: str) -> None:
    limit = "transfer_timeout_seconds = 2.0\nnetwork_timeout_seconds = 60.0"
    with receiving(tmp_path / "node", ae=limit) as node, associated(node) as sender:
        begun = time.monotonic()
        sender.sendall(p_data(COMMAND, c_store()) + p_data(MORE, header()) if message == "store" else b"")
        kind = MORE if message == "store" else COMMAND_MORE
        with suppress(ConnectionError):
            while not select.select([sender], [], [], 0.1)[0]:
                sender.sendall(p_data(kind, b"\0\0"))
        assert answer(sender)[:1] == b"\7"
        assert time.monotonic() - begun < SOON_SECONDS
        until(lambda: node.files() == [])
        if message == "store":
            until(lambda: [row for row in node.rows(refusal) if "transfer_timeout_seconds" in row.reason])
        assert store_works(node)
