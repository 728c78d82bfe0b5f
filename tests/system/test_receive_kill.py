"""kill -9 at any moment: what was acknowledged is there, and nothing under a final name is partial."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import sqlalchemy as sa
from blake3 import blake3
from dicom_files import ct_series
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import Node, ReceiverProcess, associate, drop, encode, send, until

from node.ledger.engine import begin_immediate
from node.ledger.tables import association, conflict, instance, series
from node.spool import dataset_offset

KILLS = 4
SENDERS = 3


def digest(data: bytes) -> str:
    return f"blake3:{blake3(data).hexdigest()}"


class Load:
    """Senders that send fresh instances, every fifth one twice, until the receiver is gone."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.failed: list[int] = []
        self._dataset = ct_series(1, 96)[0]

    def run(self, process: ReceiverProcess, series_uid: str) -> None:
        sender = associate(process, [(CTImageStorage, ExplicitVRLittleEndian)])
        dataset = deepcopy(self._dataset)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2", series_uid
        number = 0
        while sender.is_established:
            number += 1
            if number % 5:
                dataset.SOPInstanceUID = f"{series_uid}.{number}"
            data = encode(dataset)
            self.sent[dataset.SOPInstanceUID] = digest(data)
            try:
                status = send(sender, CTImageStorage, dataset.SOPInstanceUID, data).Status
            except AssertionError:  # no answer: the receiver was killed
                break
            if status == 0x0000:
                self.acknowledged.add(dataset.SOPInstanceUID)
            else:
                self.failed.append(int(status))
        drop(sender)


def check(node: Node, load: Load) -> None:
    rows = {row.sop_instance_uid: row for row in node.rows(instance)}
    assert load.acknowledged <= set(rows)
    assert sorted(node.files()) == sorted(row.path for row in rows.values())
    for uid, row in rows.items():
        content = node.spool.absolute(row.path).read_bytes()
        assert digest(content) == row.digest
        assert digest(content[dataset_offset(node.spool.absolute(row.path)) :]) == load.sent[uid]
    assert node.rows(conflict) == []
    assert sum(row.instances for row in node.rows(series)) == len(rows)
    assert all(row.closed_at for row in node.rows(association))


def test_every_acknowledged_instance_survives_kill_9_under_load(
    receiver_process: Callable[..., ReceiverProcess],
) -> None:
    chance = random.Random(20260102)
    process = receiver_process()
    process.start()
    load = Load()
    for round_ in range(KILLS):
        senders = [
            threading.Thread(target=load.run, args=(process, f"1.2.{round_}.{index}")) for index in range(SENDERS)
        ]
        for sender in senders:
            sender.start()
        time.sleep(chance.uniform(0.3, 1.5))
        process.kill()
        for sender in senders:
            sender.join(30.0)
        process.start()
        check(process.node(), load)
    assert load.failed == []
    assert len(load.acknowledged) > 10 * KILLS, "too little load to prove anything"
    assert process.stop() == 0


def test_files_without_a_row_are_recorded_at_start_up_and_temporaries_swept(
    receiver_process: Callable[..., ReceiverProcess],
) -> None:
    process = receiver_process()
    process.start()
    dataset, other = ct_series(2)
    sender = associate(process, [(CTImageStorage, ExplicitVRLittleEndian)])
    assert send(sender, CTImageStorage, dataset.SOPInstanceUID, encode(dataset)).Status == 0x0000
    assert send(sender, CTImageStorage, other.SOPInstanceUID, encode(other)).Status == 0x0000
    other.PatientComments = "changed"
    assert send(sender, CTImageStorage, other.SOPInstanceUID, encode(other)).Status == 0x0000
    node = process.node()
    until(lambda: len(node.rows(instance)) == 2 and len(node.rows(conflict)) == 1)
    process.kill()
    drop(sender)
    tables = (instance, conflict, series)
    before = [sorted(node.rows(table)) for table in tables]
    with begin_immediate(node.engine) as connection:
        for table in tables:
            connection.execute(sa.delete(table))
    (node.spool.folder / "temporary" / "left").write_bytes(b"half a file")
    (node.spool.folder / "incoming" / "1.2" / "3.4").mkdir(parents=True)
    stray = node.spool.folder / "incoming" / "1.2" / "3.4" / "5.6.dcm"
    stray.write_bytes(b"no DICOM at all")
    process.start()
    until(lambda: "has no ledger row and cannot be read" in process.log() and node.rows(conflict))
    after = [sorted(node.rows(table)) for table in tables]

    def keys(rows: list[list[sa.Row[tuple[object, ...]]]]) -> list[list[tuple[object, ...]]]:
        same = ("path", "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "digest", "size", "modality")
        return [[tuple(getattr(row, name, None) for name in (*same, "instances")) for row in table] for table in rows]

    assert keys(after) == keys(before)
    assert all(row.association_id is None for row in after[0])
    assert [row.closed_at is not None for row in node.rows(association)] == [True]
    assert not (node.spool.folder / "temporary" / "left").exists()
    assert stray.read_bytes() == b"no DICOM at all"
    assert "5.6.dcm has no ledger row and cannot be read" in process.log()
    assert process.stop() == 0


def test_a_disk_that_refuses_in_the_middle_is_answered_a700_and_leaves_nothing(
    receiver_process: Callable[..., ReceiverProcess],
) -> None:
    # A limit on the size of a file makes the kernel refuse a write half-way, as a full disk does.
    process = receiver_process(limit_file_bytes=4 << 20)
    process.start()
    small, large = ct_series(1, 64)[0], ct_series(1, 2000)[0]
    sender = associate(process, [(CTImageStorage, ExplicitVRLittleEndian)])
    refused = send(sender, CTImageStorage, large.SOPInstanceUID, encode(large))
    assert refused.Status == 0xA700
    assert refused.ErrorComment == "disk: EFBIG: File too large"
    node = process.node()
    assert node.files() == []
    assert send(sender, CTImageStorage, small.SOPInstanceUID, encode(small)).Status == 0x0000
    sender.release()
    assert [row.sop_instance_uid for row in node.rows(instance)] == [small.SOPInstanceUID]
    assert [Path(path).stem for path in node.files()] == [small.SOPInstanceUID]
    assert process.stop() == 0
