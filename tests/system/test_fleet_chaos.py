"""Chaos in a fleet: machines lose power, network and disks while studies arrive. Nothing is lost, nothing is doubled.

It takes minutes for each fault, and runs with ``AINODE_FLEET_FAULTS=300`` or another number.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from chaos_studies import ANALYSED, IMAGES, RULES
from dicom_files import ct_series, mr_series
from fleet_site import FleetSite, fleet_site, start, store
from pydicom.dataset import Dataset

from node.demo.machine import Machine
from node.ledger import ACTIVE
from node.ledger.tables import instance, job, missing_copy, result, series
from node.spool.machine import machine_id

FAULTS = int(os.environ.get("AINODE_FLEET_FAULTS", "0"))
pytestmark = pytest.mark.skipif(not FAULTS, reason="takes minutes; AINODE_FLEET_FAULTS is not set")
KINDS = ("network", "power", "disk")
PAUSE_SECONDS = 2.0
"""Between two studies."""


class Modality(threading.Thread):
    """Sends studies to any of the machines, and each again until every image was answered with Success."""

    def __init__(self, machines: tuple[Machine, ...]) -> None:
        super().__init__(daemon=True)
        self.acknowledged: set[str] = set()
        self.studies = 0
        self.refused: Counter[int] = Counter()
        self._machines = machines
        self._dice = random.Random(3)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            self.studies += 1
            images: list[Dataset] = list((mr_series if self.studies % ANALYSED else ct_series)(IMAGES, 16))
            while not self._is_sent(images):
                time.sleep(0.5)

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _is_sent(self, images: list[Dataset]) -> bool:
        statuses = store(self._dice.choice(self._machines), images)
        taken = {str(image.SOPInstanceUID) for image, status in zip(images, statuses, strict=True) if status == 0}
        self.acknowledged |= taken
        self.refused.update(status for status in statuses if status)
        return len(taken) == len(images)


class Faults:
    """One fault after the other, each repaired before the next one: two copies survive one loss at a time."""

    def __init__(self, site: FleetSite) -> None:
        self.made: Counter[str] = Counter()
        self._site = site
        self._dice = random.Random(7)

    def make(self, number: int) -> None:
        machine = self._dice.choice(self._site.machines)
        kind = KINDS[number % len(KINDS)]
        getattr(self, f"_{kind}")(machine)
        self.made[kind] += 1

    def _network(self, machine: Machine) -> None:
        machine.cut()
        time.sleep(self._dice.uniform(1.0, 30.0))
        machine.repair()

    def _power(self, machine: Machine) -> None:
        machine.power_off()
        time.sleep(self._dice.uniform(0.0, 20.0))
        self._start(machine)

    def _disk(self, machine: Machine) -> None:
        self._site.until(lambda: not self._site.rows(missing_copy), 180.0)
        lost = machine_id(machine.storage)
        machine.destroy_disk()
        other = self._dice.choice([of for of in self._site.machines if of is not machine])
        self._site.until(lambda: other.ainode("fleet", "--abandon", lost).returncode == 0, 180.0)
        self._start(machine)
        self._site.until(lambda: not self._site.rows(missing_copy), 180.0)

    def _start(self, machine: Machine) -> None:
        start(machine)
        machine.wait_until_ready()


@pytest.mark.timeout(900 + 180 * FAULTS)
def test_nothing_acknowledged_is_lost_or_doubled_when_machines_lose_power_network_and_disks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with fleet_site(tmp_path, ("a", "b", "c"), rules=RULES) as site:
        for machine in site.machines:  # one by one: processes that are too slow to start are replaced
            start(machine)
            machine.wait_until_ready()
        modality, faults = Modality(site.machines), Faults(site)
        modality.start()
        try:
            for number in range(FAULTS):
                faults.make(number)
        finally:
            modality.end()
        active = sa.select(sa.func.count()).select_from(job).where(job.c.state.in_(ACTIVE))

        def is_over() -> bool:
            # In this order: completing a series creates its jobs, and storing a result records that it has one copy.
            if [row.state for row in site.rows(series)] != ["COMPLETE"] * modality.studies:
                return False
            with site.engine.connect() as connection:
                left = connection.scalar(active)
            return not left and not site.rows(missing_copy)

        site.until(is_over, 600.0)
        received = {row.sop_instance_uid for row in site.rows(instance)}
        results = [row.sop_instance_uid for row in site.rows(result)]
        held = site.held()
        told = [site.machines[0].ainode(*verb) for verb in (("account",), ("verify", "--fleet"))]
    lost = (modality.acknowledged - received) | ((modality.acknowledged | set(results)) - held.keys())
    doubled = held.total() - len(modality.acknowledged) - len(results)
    with capsys.disabled():
        print(  # noqa: T201 - the proof is shown
            f"\n{dict(faults.made)} faults, {modality.studies} studies, {len(modality.acknowledged)} images and "
            f"{len(results)} results: {len(lost)} lost, {doubled} doubled in {time.monotonic() - began:.0f} s; "
            f"answers that made the modality repeat: {dict(modality.refused)}"
        )
    assert (lost, doubled) == (set(), 0)
    assert [of.returncode for of in told] == [0, 0], "\n".join(of.stdout + of.stderr for of in told)
