"""The disk is full at each write, and then is not: nothing is lost, nothing is half done, nothing is done twice."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from analyses import ALGORITHM, MOMENT
from delivery_jobs import FinishedJob, destination
from dicom_files import ct_series
from job_node import JobNode, config_of
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from real_peers import storescp
from receivers import associate, configuration, receiving, send_dataset, until
from scanner import RULE

from node.config import parse
from node.errors import InputError, PlatformError
from node.inference.handover import Handover, load, save
from node.jobs.engine import Jobs
from node.jobs.stage import Done
from node.ledger.audit_events import give_notice
from node.ledger.engine import now
from node.ledger.tables import association, instance, notice, series
from node.operate.audit.auditor import Auditor, trail_path
from node.operate.audit.trail import verify as verify_trail
from node.operate.purge import Retention
from node.operate.verify import verify
from node.pipeline import Findings
from node.reasons import ReasonCode, reason
from node.routing.router import Router

ROOM_MIB = 48


class Disk:
    """A file system of its own that can be filled to its last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        self._ballast.unlink()

    @contextmanager
    def full(self) -> Iterator[None]:
        self.fill()
        try:
            yield
        finally:
            self.free()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_MIB}m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted; run the tests as root")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_receiver_whose_disk_is_full_refuses_keeps_nothing_and_goes_on_when_there_is_room(disk: Disk) -> None:
    images = ct_series(3, 64)
    with receiving(disk.folder / "node") as node:
        sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
        assert send_dataset(sender, images[0]).Status == 0x0000
        assert len(node.rows(instance)) == 1
        with disk.full():
            assert send_dataset(sender, images[1]).Status == 0xA700
        assert [send_dataset(sender, image).Status for image in images] == [0x0000] * 3
        sender.release()
        assert len(node.rows(instance)) == 3
        assert verify(node.engine, node.spool, now() + 3600.0).faults == 0
        assert len([path for path in node.files() if path.startswith("incoming")]) == 3


def test_rows_and_decisions_that_find_no_room_are_written_when_there_is_some(disk: Disk) -> None:
    with receiving(disk.folder / "node") as node:
        jobs = Jobs(node.engine)
        sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
        for image in ct_series(3, 16):
            assert send_dataset(sender, image).Status == 0x0000
        disk.fill()  # before their rows are written
        sender.release()
        router = Router(parse(configuration(node.spool.folder, node.port) + RULE), node.engine, node.spool, jobs)
        with suppress(sa.exc.OperationalError):  # the loop of the router survives this, and looks again
            router.step(now() + 3600.0)
        disk.free()
        until(lambda: len(node.rows(instance)) == 3 and all(row.closed_at for row in node.rows(association)))
        router.step(now() + 3600.0)
        assert [(row.state, row.generation) for row in node.rows(series)] == [("COMPLETE", 1)]


def test_a_handover_that_finds_no_room_is_not_there_and_the_next_one_is_whole(disk: Disk) -> None:
    handover = Handover(
        findings=Findings(remarks=("x" * 100_000,)),
        algorithm=ALGORITHM,
        device="cpu",
        analysed_at=MOMENT,
        timings={},
        peak_memory_mib={},
    )
    with disk.full(), pytest.raises(OSError, match="No space left"):
        save(disk.folder / "job", handover)
    with pytest.raises(InputError):
        load(disk.folder / "job", 1 << 24)
    save(disk.folder / "job", handover)
    assert load(disk.folder / "job", 1 << 24).findings.remarks == handover.findings.remarks


@pytest.mark.parametrize("stage", ["encode", "deliver"])
def test_a_stage_that_finds_no_room_is_done_once_when_there_is_some(disk: Disk, stage: str) -> None:
    node = JobNode(config_of(disk.folder / "node", does="findings"))
    filled = threading.Event()

    def with_full_disk(handler: Callable[[str, str], Done | None]) -> Callable[[str, str], Done | None]:
        def handle(job_id: str, subject: str) -> Done | None:
            if not filled.is_set():
                filled.set()
                disk.fill()
                threading.Timer(2.0, disk.free).start()
            return handler(job_id, subject)

        return handle

    stages = [
        replace(step, handler=with_full_disk(step.handler)) if step.name == stage else step
        for step in node.stages()[1:]
    ]
    why = {"outcome": "not applicable", "reason": reason(ReasonCode.STATED, text="too few slices")}
    job_id = node.enqueue_for(*node.receive(), destinations=("pacs",), pipeline="scripted", **why)
    node.jobs.serve("worker", stages)
    try:
        assert node.wait(job_id).state == "COMPLETED"
    finally:
        node.jobs.stop()
    assert filled.is_set()
    made = [row.sop_instance_uid for row in node.results(job_id)]
    assert made
    assert node.delivered() == {f"pacs {uid}": 1 for uid in made}
    assert verify(node.engine, node.spool, now() + 3600.0).faults == 0


def test_a_sender_that_cannot_write_its_ledger_sends_at_most_one_object_again(disk: Disk, tmp_path: Path) -> None:
    with storescp(tmp_path) as pacs:
        job = FinishedJob(disk.folder / "node", ct_series(4, 16), {"pacs": destination(pacs)})
        with disk.full(), suppress(sa.exc.OperationalError):
            job.deliver()
        job.deliver()
        assert job.status().state == "STORED"
        assert pacs.instances() == sorted(job.uids)


def test_an_audit_trail_that_finds_no_room_is_whole_and_complete_when_there_is_some(disk: Disk) -> None:
    with receiving(disk.folder / "node") as node:
        config = parse(configuration(node.spool.folder, node.port))
        auditor = Auditor(config, node.engine, node.spool)
        for number in range(40):
            give_notice(node.engine, "failed login", who=f"CT{number}", address="10.0.0.1", detail="not known")
        with disk.full(), suppress(PlatformError, sa.exc.OperationalError):
            auditor.step(now())
        auditor.step(now())
        auditor.close()
        assert node.rows(notice) == []
        assert list(verify_trail(trail_path(config))) == []
        text = trail_path(config).read_text()
        assert all(f"CT{number}" in text for number in range(40))


def test_retention_on_a_full_disk_makes_room(disk: Disk) -> None:
    with receiving(disk.folder / "node") as node:
        sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
        for image in ct_series(3, 256):
            assert send_dataset(sender, image).Status == 0x0000
        sender.release()
        jobs = Jobs(node.engine)
        until(lambda: len(node.rows(instance)) == 3 and all(row.closed_at for row in node.rows(association)))
        Router(node.config, node.engine, node.spool, jobs).step(now() + 3600.0)
        retention = Retention(node.config, node.engine, node.spool)
        with disk.full(), suppress(sa.exc.OperationalError):
            retention.step(now() + 400 * 86400.0)
        retention.step(now() + 400 * 86400.0)
        assert node.rows(instance) == []
        assert not list((node.spool.folder / "incoming").iterdir())
