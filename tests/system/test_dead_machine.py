"""A receiver's machine dies in the middle of a series and stays away: those that live take over what it left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from machines import Machine
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.association import Association
from receivers import Node, associate, drop, send_dataset, until

from node.ledger.engine import begin_immediate
from node.ledger.states import AssociationEnding, SeriesState
from node.ledger.tables import association, instance, series
from node.operate.status import lost_receivers

pytestmark = pytest.mark.rotating

TAKEN_OVER_SECONDS = 60.0
Make = Callable[..., Machine]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Make]:
    """Makes machines; all are powered off at the end."""
    machines: list[Machine] = []

    def make(name: str, storage: str, url: str = "") -> Machine:
        machines.append(Machine(tmp_path, name, tmp_path / storage, url))
        return machines[-1]

    yield make
    for machine in machines:
        machine.power_off()
        machine.node.engine.dispose()


@contextmanager
def no_rows(engine: sa.Engine) -> Iterator[None]:
    """Nobody can write the row of an image meanwhile."""
    with begin_immediate(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE instance IN SHARE MODE")
        yield


def die_in_mid_series(machine: Machine) -> tuple[set[str], Association]:
    """Half of the images have rows, all are acknowledged, and the association is open when the power goes off."""
    node, images = machine.node, ct_series(8, 16)
    sender = associate(machine, [(CTImageStorage, ExplicitVRLittleEndian)])  # type: ignore[arg-type]
    for image in images[:4]:
        acknowledged(sender, image)
    until(lambda: len(node.rows(instance)) == 4)
    with no_rows(node.engine):
        for image in images[4:]:
            acknowledged(sender, image)
        machine.power_off()
    drop(sender)
    assert len(node.rows(instance)) == 4
    return {image.SOPInstanceUID for image in images}, sender


def acknowledged(sender: Association, image: Dataset) -> None:
    assert send_dataset(sender, image).Status == 0x0000


def lost(node: Node) -> bool:
    with node.engine.connect() as connection:
        return bool(lost_receivers(connection))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("ledger", ["postgresql", "sqlite"])
def test_a_living_receiver_takes_over_from_a_dead_one_and_its_series_is_complete(
    machine: Make, ledger: str, request: pytest.FixtureRequest
) -> None:
    url = ""
    if ledger == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_server"), "dead_machine")
    dying, living, router = (machine(name, "shared", url) for name in ("dying", "living", "router"))
    for host, role in ((dying, "receiver"), (living, "receiver"), (router, "router")):
        host.start(role)
    for host in (dying, living, router):
        host.wait_until_ready()
    uids, _ = die_in_mid_series(dying)
    begun, node = time.monotonic(), living.node
    until(lambda: {row.state for row in node.rows(series)} == {SeriesState.COMPLETE}, TAKEN_OVER_SECONDS)
    assert time.monotonic() - begun < TAKEN_OVER_SECONDS
    assert {row.sop_instance_uid for row in node.rows(instance)} == uids
    [of_series] = node.rows(series)
    assert (of_series.instances, of_series.generation) == (len(uids), 1)
    assert [row.ending for row in node.rows(association)] == [AssociationEnding.KILLED]
    assert {path.name.partition("-")[0] for path in (node.spool.folder / "temporary").iterdir()} <= {"receiver"}
    assert "lost" not in living.ainode("fleet")


@pytest.mark.timeout(240)
def test_files_on_a_disk_that_nobody_else_sees_are_reported_until_their_machine_is_back(
    machine: Make, postgres_server: str
) -> None:
    url = postgres.new_database(postgres_server, "lost_disk")
    dying, living = machine("dying", "disk", url), machine("living", "other", url)
    for host in (dying, living):
        host.start()
    for host in (dying, living):
        host.wait_until_ready()
    uids, _ = die_in_mid_series(dying)
    node = living.node
    until(lambda: [row.ending for row in node.rows(association)] == [AssociationEnding.KILLED], TAKEN_OVER_SECONDS)
    until(lambda: lost(node), TAKEN_OVER_SECONDS)
    shown = living.ainode("status")
    assert "LOST since" in shown
    assert "images that it acknowledged may wait on its disk" in shown
    assert len(node.rows(instance)) == 4
    dying.start()
    until(lambda: {row.sop_instance_uid for row in node.rows(instance)} == uids, TAKEN_OVER_SECONDS)
    until(lambda: not lost(node))
