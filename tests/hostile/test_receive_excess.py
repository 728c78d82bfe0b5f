"""Requests with too much of something: items, conflicts, instances, bytes beyond a quota."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from dicom_files import ct_series
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from raw_peer import COMMAND, MORE, RAW_CT, answer, associated, c_store, connection, encode_command, p_data, pdu, status
from receivers import Node, associate, associate_rq, encode, receiving, send_dataset, store_works, until

from node.ledger.tables import commitment, conflict, instance, refusal
from node.spool.spool import MOST_CONFLICTS


@pytest.mark.parametrize("count", [100_000, 1_000_000])
@pytest.mark.parametrize("kind", [0x20, 0x30, 0x50], ids=["contexts", "unknown items", "user information"])
def test_an_association_request_of_endless_items_is_refused_at_once(node: Node, kind: int, count: int) -> None:
    request = associate_rq(RAW_CT)
    item = bytes((kind, 0, 0, 4)) + bytes((0x5F, 0, 0, 0))
    begun = time.process_time()  # of this process, in which the node runs
    with connection(node) as opened:
        with suppress(ConnectionError):
            opened.sendall(pdu(1, request[6:] + item * count))
        assert answer(opened)[:1] in (b"", b"\7")
    assert time.process_time() - begun < 3.0
    assert store_works(node)


def test_ever_other_bytes_under_one_uid_are_refused_after_a_number_and_nothing_acknowledged_is_lost(
    node: Node,
) -> None:
    (image,) = ct_series(1, 8)
    sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
    answers = []
    for number in range(MOST_CONFLICTS + 3):
        image.WindowCenter = float(number)
        answers.append(send_dataset(sender, image))
    statuses = [reply.Status for reply in answers]
    assert statuses == [0x0000] * (1 + MOST_CONFLICTS) + [0xC000] * 2
    assert "other contents of this SOP Instance UID" in answers[-1].ErrorComment
    for number in (0, 1, MOST_CONFLICTS):  # what was acknowledged is acknowledged again
        image.WindowCenter = float(number)
        assert send_dataset(sender, image).Status == 0x0000
    sender.release()
    until(lambda: len(node.rows(conflict)) == MOST_CONFLICTS)
    assert len(node.rows(instance)) == 1
    until(lambda: len(node.files()) == 1 + MOST_CONFLICTS)
    until(lambda: [row for row in node.rows(refusal) if "other contents" in row.reason])


def test_a_quota_counts_the_bytes_of_an_instance_while_they_come(tmp_path: Path) -> None:
    callers = f'callers = [{{ title = "RAW", quota_gib = {20 / 2**10} }}, {{ title = "PEER" }}]'
    with receiving(tmp_path / "node", callers) as node, associated(node) as first, associated(node) as second:
        for sender in (first, second):
            sender.sendall(p_data(COMMAND, c_store()))
        for _ in range(3000):
            for sender in (first, second):
                sender.sendall(p_data(MORE, bytes(16000)))
        until(lambda: node.files() == [])
        for sender in (first, second):
            sender.sendall(p_data(2, b""))
            assert status(answer(sender)) == 0xA700
        assert store_works(node)


def commit(count: int) -> bytes:
    """A Storage Commitment request that names this many instances, Implicit VR Little Endian."""
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.4.5.6.7.8.000000"
    request = Dataset()
    request.TransactionUID, request.ReferencedSOPSequence = "1.2.3.9", [reference]
    encoded = encode(request, ImplicitVRLittleEndian)
    at = encoded.index(b"\xfe\xff\x00\xe0")
    item, marker = encoded[at:], b"8.000000"
    items = b"".join(item.replace(marker, b"8.%06d" % number) for number in range(count))
    return encoded[: at - 4] + len(items).to_bytes(4, "little") + items


@pytest.mark.parametrize(("count", "expected"), [(50_000, 0x0000), (150_000, 0x0115)])
def test_a_commitment_request_for_very_many_instances_takes_bounded_time(node: Node, count: int, expected: int) -> None:
    command = Dataset()
    command.RequestedSOPClassUID = StorageCommitmentPushModel
    command.RequestedSOPInstanceUID = StorageCommitmentPushModelInstance
    command.CommandField, command.MessageID, command.CommandDataSetType, command.ActionTypeID = 0x0130, 1, 1, 1
    data = commit(count)
    begun = time.process_time()
    with connection(node) as opened:
        opened.settimeout(120.0)
        opened.sendall(associate_rq([(StorageCommitmentPushModel, [ImplicitVRLittleEndian])]))
        assert answer(opened)[0] == 2
        opened.sendall(p_data(COMMAND, encode_command(command)))
        for at in range(0, len(data), 16000):
            opened.sendall(p_data(MORE, data[at : at + 16000]))
        opened.sendall(p_data(2, b""))
        assert status(answer(opened)) == expected
    assert time.process_time() - begun < 20.0
    assert len(node.rows(commitment)) == (expected == 0x0000)
    assert store_works(node)
