"""Packs of two machines without a shared folder, of which a process is killed, a disk lost, a study purged."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from certificates import Authority
from dicom_files import ct_series
from fleet_machines import FleetMachine
from killed_packing import LATER_SECONDS, STEPS, kill_packing
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import associate, send_dataset, until
from s3_server import PROGRAM, Proxy, proxied_server, store_table

from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.tables import holding, instance, pack, packed, series
from node.membership import elected
from node.object_store.deletion import PackDeletion
from node.object_store.local_copies import LocalCopies
from node.object_store.packing import Packing
from node.object_store.recovery import unknown_packs
from node.object_store.store import open_objects
from node.operate.fleet import abandon_machine
from node.operate.purge import Retention
from node.operate.verify_copies import verify_copies

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="make build/s3-server has not been run")

CT = [(CTImageStorage, ExplicitVRLittleEndian)]
IMAGES = 3
STOP = threading.Event()
Machines = tuple[FleetMachine, FleetMachine]


@pytest.fixture(scope="module")
def server() -> Iterator[Proxy]:
    with proxied_server() as proxy:
        yield proxy


@pytest.fixture
def machines(tmp_path: Path, postgres_server: str, authority: Authority, server: Proxy) -> Iterator[Machines]:
    """Two that run, with one complete series on both."""
    url = postgres.new_database(postgres_server, "packs" + tmp_path.name[-40:].lower())
    table = store_table(server.url, tmp_path.name, tmp_path, pack_after_minutes=0.0, local_free_gib=0.0)
    a, b = (FleetMachine(tmp_path / name, url, authority, copies=2, object_store=table) for name in ("a", "b"))
    a.serve()
    b.serve()
    with a.receiving():
        sender = associate(a, CT)  # type: ignore[arg-type]
        assert [send_dataset(sender, image).Status for image in ct_series(IMAGES)] == [0x0000] * IMAGES
        sender.release()
        until(lambda: len(a.rows(instance)) == IMAGES)
    for machine in (a, b):
        machine.copies.pending.look()
    with begin_immediate(a.engine) as connection:
        connection.execute(sa.update(series).values(state="COMPLETE", generation=1, completed_at=1.0))
    yield a, b
    server.fault = ""
    a.close()
    b.close()


def pack_and_release(machine: FleetMachine) -> None:
    table = machine.config.storage.object_store
    packing = Packing(table, machine.engine, machine.spool, partial(open_objects, table))
    packing.look(STOP)
    packing.release()
    copies = LocalCopies(table, machine.engine, machine.spool, partial(open_objects, table), None)
    copies.look(time.time() + LATER_SECONDS, STOP)


def check_packed_once(machine: FleetMachine, contents: dict[str, bytes]) -> None:
    """One pack has every image, which each machine reads as it was received, and nothing else is in the store."""
    objects = open_objects(machine.config.storage.object_store)
    assert [(of.state, len(machine.rows(packed))) for of in machine.rows(pack)] == [("verified", IMAGES)]
    assert len(list(objects.names("packs"))) == 1
    assert unknown_packs(machine.engine, objects) == []
    files = machine.spool.all_readable(contents)
    assert [file.read_bytes() for file in files] == list(contents.values())
    verified = verify_copies(machine.engine, machine.spool)
    assert (verified.faults, verified.pending, verified.copies) == (0, (), {1: IMAGES})


def packing_one(machines: Machines) -> FleetMachine:
    """The machine that packs the series."""
    (folder,) = {row.folder for row in machines[0].rows(holding)}
    packs = elected({of.spool.machine for of in machines}, folder)
    return next(of for of in machines if of.spool.machine == packs)


def contents_of(machine: FleetMachine) -> dict[str, bytes]:
    return {path: machine.spool.absolute(path).read_bytes() for path in machine.spool.files("incoming")}


@pytest.mark.parametrize("step", STEPS)
def test_a_packing_process_that_is_killed_at_any_step_loses_and_doubles_nothing(machines: Machines, step: str) -> None:
    contents = contents_of(machines[0])
    assert kill_packing(packing_one(machines).config, step) == -signal.SIGKILL
    for machine in machines:
        assert [file.read_bytes() for file in machine.spool.all_readable(contents)] == list(contents.values())
    for machine in (*machines, *machines):
        pack_and_release(machine)
    for machine in machines:
        assert machine.spool.files("incoming") == []
        assert not list((machine.spool.folder / "incoming").glob("*/*")), "a folder is left"
        check_packed_once(machine, contents)


def test_the_last_local_copy_may_be_lost_with_its_disk_once_the_series_is_packed(machines: Machines) -> None:
    a, b = machines
    contents = contents_of(a)
    pack_and_release(a)
    pack_and_release(b)
    pack_and_release(a)  # whichever packs
    assert a.spool.files("incoming") == []
    b.end()
    lost = b.spool.machine
    shutil.rmtree(b.spool.folder)
    if any(of.machine == lost for of in a.rows(holding)):
        abandon_machine(a.engine, lost)
    check_packed_once(a, contents)


def test_a_machine_whose_disk_is_lost_while_the_store_is_away_loses_nothing(machines: Machines, server: Proxy) -> None:
    """It was to pack; the other one, which has the second copies, does it when the store is back."""
    a, b = machines
    contents = contents_of(a)
    server.fault = "forbid"
    pack_and_release(a)
    pack_and_release(b)
    assert len(b.spool.files("incoming")) == IMAGES
    a.end()
    shutil.rmtree(a.spool.folder)
    abandon_machine(b.engine, a.spool.machine)
    server.fault = ""
    pack_and_release(b)
    assert b.spool.files("incoming") == []
    check_packed_once(b, contents)


def test_a_purged_study_leaves_the_store_also_when_it_was_away_at_that_time(machines: Machines, server: Proxy) -> None:
    a, b = machines
    for _ in range(2):
        pack_and_release(a)
        pack_and_release(b)
    Retention(a.config, a.engine, a.spool).step(clock_of(a.engine) + 10 * 365 * 86400.0)
    assert a.rows(instance) == a.rows(packed) == []
    table = b.config.storage.object_store
    deletion = PackDeletion(b.engine, b.spool, partial(open_objects, table))
    server.fault = "forbid POST"
    assert deletion.look() == 0
    server.fault = ""
    assert deletion.look() == 1
    deletion.release()
    assert list(open_objects(table).names("packs")) == []
    assert a.rows(pack) == []
