"""Packs of machines without a shared folder, whose store, disks and processes fail: nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from dicom_files import ct_series
from fleet_faults import disks, processes
from fleet_site import FleetSite, fleet_site, start, store
from lesion_studies import with_lesion
from pydicom.dataset import Dataset
from s3_server import BUCKET, PROGRAM, Proxy, proxied_server

from node.demo.hospital_network import HERE
from node.demo.machine import Machine
from node.ledger import ACTIVE
from node.ledger.tables import holding, instance, job, missing_copy, packed, result, series
from node.spool.machine import machine_id

pytestmark = [
    pytest.mark.skipif("AINODE_FLEET" not in os.environ, reason="takes minutes; AINODE_FLEET is not set"),
    pytest.mark.skipif(not PROGRAM.exists(), reason="make build/s3-server has not been run"),
]

NAMES = ("a", "b", "c")
SLICES = 6
FAULTS = ("stall", "busy PUT", "reset", "forbid", "short GET", "slow GET", "lose", "alter", "stall POST")
_TABLE = """
[storage.object_store]
url = "s3://{bucket}/site"
endpoint = "{endpoint}"
credentials_file = "{credentials}"
allow_http = true
pack_after_minutes = 0
keep_local_days = 0
[series]"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[FleetSite, Proxy]]:
    credentials = tmp_path / "credentials"
    credentials.write_text("aws_access_key_id = key\naws_secret_access_key = secret\n")
    with disks(tmp_path, NAMES), fleet_site(tmp_path, NAMES) as site, proxied_server(HERE) as proxy:
        for machine in site.machines:
            table = _TABLE.format(bucket=BUCKET, endpoint=proxy.url, credentials=credentials)
            machine.config.write_text(machine.config.read_text().replace("[series]", table, 1))
            begin(machine)
        yield site, proxy


def begin(machine: Machine) -> None:
    start(machine, custom="hurried")
    machine.wait_until_ready()


def study() -> list[Dataset]:
    return list(ct_series(volume=with_lesion((SLICES, 32, 32))))


def send(machines: tuple[Machine, ...], images: list[Dataset]) -> None:
    """Send images until each was answered with Success; a machine that was killed may refuse them for a while."""
    for _ in range(20):
        if set(store(random.choice(machines), images)) == {0}:
            return
        time.sleep(2.0)
    pytest.fail("images are refused")


def local_files(site: FleetSite) -> int:
    return sum(path.is_file() for machine in site.machines for path in (machine.storage / "incoming").rglob("*"))


def settle(site: FleetSite, studies: int) -> None:
    """Until everything is analysed, delivered, packed, and in the store alone."""

    def is_over() -> bool:
        if [row.state for row in site.rows(series)] != ["COMPLETE"] * studies:
            return False
        is_active = {row.state for row in site.rows(job)} & set(ACTIVE)
        is_packed = {row.path for row in site.rows(packed)} == {row.path for row in site.rows(instance)}
        return not is_active and is_packed and not site.rows(missing_copy) and not local_files(site)

    site.until(is_over, 400.0)


def check(site: FleetSite, images: int) -> None:
    """Nothing is lost, nothing doubled, and the verbs agree."""
    assert len(site.rows(instance)) == images
    assert {row.state for row in site.rows(job)} == {"COMPLETED"}
    assert set(site.held()) == {row.sop_instance_uid for row in site.rows(result)}
    assert set(site.held().values()) == {1}
    for verb in (("account",), ("verify", "--fleet"), ("packs",)):
        done = site.machines[1].ainode(*verb)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_a_late_image_is_analysed_with_those_that_only_the_store_has(fleet: tuple[FleetSite, Proxy]) -> None:
    site, _ = fleet
    a, b, _ = site.machines
    images = study()
    send((a,), images[:-1])
    settle(site, 1)
    a.power_off()
    send((b,), images[-1:])
    site.until(lambda: {row.generation for row in site.rows(series)} == {2}, 120.0)
    settle(site, 1)
    begin(a)
    check(site, SLICES)


def kill(machine: Machine) -> None:
    """Kill -9 of what packs and releases there."""
    for process in processes(machine):
        with suppress(psutil.NoSuchProcess):
            if process.name() == "ainode files":
                process.send_signal(signal.SIGKILL)


def lose(site: FleetSite, machine: Machine) -> None:
    """Its disk is gone; what others have is copied again."""
    site.until(lambda: not site.rows(missing_copy), 240.0)
    lost, other = machine_id(machine.storage), next(of for of in site.machines if of is not machine)
    machine.destroy_disk()

    def is_abandoned() -> bool:
        other.ainode("fleet", "--abandon", lost)
        return lost not in {row.machine for row in site.rows(holding)}

    site.until(is_abandoned, 240.0)
    begin(machine)


def fill(machine: Machine) -> None:
    ballast = machine.storage / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    time.sleep(10.0)
    ballast.unlink()


@pytest.mark.timeout(3600)
def test_nothing_is_lost_or_doubled_while_store_disks_and_packing_processes_fail(
    fleet: tuple[FleetSite, Proxy],
) -> None:
    site, proxy = fleet
    dice = random.Random(18)
    for number, fault in enumerate(FAULTS, 1):
        begun, machine = time.monotonic(), dice.choice(site.machines)
        proxy.fault = fault
        send(site.machines, study())
        time.sleep(dice.uniform(2.0, 6.0))
        kill(machine)
        proxy.fault = ""
        for _ in range(3):
            time.sleep(dice.uniform(0.5, 2.0))
            kill(machine)
        if number % 3 == 1:
            lose(site, machine)
        if number % 3 == 2:
            fill(machine)
        print(f"{fault}: {time.monotonic() - begun:.0f} s, {local_files(site)} local", flush=True)  # noqa: T201
    settle(site, len(FAULTS))
    check(site, SLICES * len(FAULTS))
