"""One of two receivers loses power and its disk in mid-series: the other machine has every acknowledged image."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import real_peers
import sqlalchemy as sa
from certificates import Authority
from dicom_files import ct_series
from fleet_nodes import FleetNode
from lesion_studies import SR3D, with_lesion
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage
from receivers import associate, drop, send_dataset, until

from node.ledger.engine import begin_immediate, open_ledger
from node.ledger.tables import holding, instance, job, series
from node.spool.machine import machine_id

pytestmark = pytest.mark.rotating

TAKEN_OVER_SECONDS = 60.0
_CT = [(CTImageStorage, ExplicitVRLittleEndian)]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path, postgres_server: str) -> Iterator[sa.Engine]:
    engine = open_ledger(postgres.new_database(postgres_server, "lost" + tmp_path.name[-40:].lower()))
    yield engine
    engine.dispose()


@pytest.fixture
def machines(tmp_path: Path, ledger: sa.Engine, pacs: real_peers.Orthanc) -> Iterator[list[FleetNode]]:
    authority, url = Authority(tmp_path / "authority"), ledger.url.render_as_string(hide_password=False)
    storage = 'copies = 2\ncopies_missing = "accept"'
    both = [FleetNode(tmp_path, of, url, authority, ("ORTHANC", pacs.dicom_port), storage=storage) for of in ("a", "b")]
    yield both
    for machine in both:
        machine.power_off()


def acknowledged(node: FleetNode, images: list[Dataset], sender: object = None) -> object:
    sender = sender or associate(node, _CT)  # type: ignore[arg-type]
    for image in images:
        assert send_dataset(sender, image).Status == 0x0000  # type: ignore[arg-type]
    return sender


def rows(engine: sa.Engine, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(table)))


@pytest.mark.timeout(600)
def test_every_acknowledged_image_of_a_machine_that_is_destroyed_is_analysed_and_its_result_delivered(
    machines: list[FleetNode], pacs: real_peers.Orthanc, ledger: sa.Engine
) -> None:
    a, b = machines
    b.start("files", "receiver", "router", "worker", "sender")
    a.start("files", "receiver")
    images = ct_series(volume=with_lesion())
    sender = acknowledged(a, images[:2])
    until(lambda: len(rows(ledger, instance)) == 2)
    with begin_immediate(ledger) as connection:  # acknowledged, and no row can be written
        connection.exec_driver_sql("LOCK TABLE instance IN SHARE MODE")
        acknowledged(a, images[2:4], sender)
        a.destroy()
    drop(sender)  # type: ignore[arg-type]
    begun = time.monotonic()
    assert len(rows(ledger, instance)) == 2
    acknowledged(b, images[4:]).release()  # type: ignore[attr-defined]
    until(lambda: len(rows(ledger, instance)) == len(images), TAKEN_OVER_SECONDS)
    until(lambda: [row.state for row in rows(ledger, series)] == ["COMPLETE"], TAKEN_OVER_SECONDS)
    assert time.monotonic() - begun < TAKEN_OVER_SECONDS
    until(lambda: [row.state for row in rows(ledger, job)] == ["COMPLETED"], 120.0)
    assert [row.generation for row in rows(ledger, series)] == [1]
    delivered = Counter(str(pacs.download(uid).SOPClassUID) for uid in pacs.instances())
    assert delivered == {SegmentationStorage: 1, SR3D: 1, CTImageStorage: len(images)}
    verified = b.ainode("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    [lost] = {row.machine for row in rows(ledger, holding)} - {machine_id(b.folder)}
    abandoned = b.ainode("fleet", "--abandon", lost)
    assert abandoned.returncode == 0, abandoned.stdout + abandoned.stderr
    assert "LOST" not in b.ainode("status").stdout
    assert f"{len(images) + 8} files have one copy only" in b.ainode("fleet").stdout
