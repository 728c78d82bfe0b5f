"""A rolling upgrade: machine after machine gets a newer version, and back, while studies arrive."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import real_peers
import sqlalchemy as sa
from certificates import Authority
from dicom_files import ct_series, write
from fleet_nodes import FleetNode
from lesion_studies import with_lesion
from next_version import ADDS, NEWEST, NEXT, VERSION, next_version
from pydicom.uid import generate_uid
from receivers import until

from node import __version__
from node.ledger.tables import instance, job, member
from node.spool.machine import machine_id

pytestmark = pytest.mark.rotating

ROLES = ("receiver", "router", "worker", "sender", "files")
PAUSE_SECONDS = 3.0
"""Between two studies: two cores analyse one in less."""
IMAGES, OBJECTS = 6, 8
"""Of a study, and what its analysis makes: segmentation, report and six derived images."""


class Scanner(threading.Thread):
    """Sends studies to the machines in turn, each until one of them has acknowledged all of it."""

    def __init__(self, folder: Path, machines: list[FleetNode]) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self._folder = folder
        self._machines = machines
        self._ended = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._ended.wait(PAUSE_SECONDS):
            study = generate_uid()
            write(ct_series(volume=with_lesion(), study=study), self._folder / study)
            while not self._is_taken(self._machines[(number := number + 1) % len(self._machines)], study):
                self._ended.wait(0.5)
            self.acknowledged.append(study)

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _is_taken(self, machine: FleetNode, study: str) -> bool:
        command = ["storescu", "-aec", "AINODE", "+sd", "127.0.0.1", str(machine.port), str(self._folder / study)]
        return subprocess.run(command, capture_output=True, check=False, timeout=60.0).returncode == 0


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path, postgres_server: str) -> str:
    return postgres.new_database(postgres_server, "rolling" + tmp_path.name[-40:].lower())


@pytest.fixture
def machines(tmp_path: Path, ledger: str, pacs: real_peers.Orthanc) -> Iterator[list[FleetNode]]:
    authority = Authority(tmp_path / "authority")
    both = [FleetNode(tmp_path, name, ledger, authority, ("ORTHANC", pacs.dicom_port)) for name in ("a", "b")]
    yield both
    for machine in both:
        machine.power_off()


def exchange(machine: FleetNode, program: Path, other: FleetNode) -> None:
    """Do what an administrator does to a machine: drain it, stop it, install a version, start it, end the drain."""
    identity = machine_id(machine.folder)
    for arguments in ((identity, "--wait", "60"), ("--undo", identity)):
        done = other.ainode("drain", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        if "--wait" in arguments:
            machine.power_off()
            machine.program = program
            machine.start(*ROLES)


class Ledger:
    """What is in it, read without knowing of which version it is."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)

    def rows(self, *columns: sa.Column[str]) -> list[tuple[str, ...]]:
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.select(*columns))]

    def finished(self) -> set[str]:
        """Studies whose job is done."""
        return {study for study, state in self.rows(job.c.study_instance_uid, job.c.state) if state == "COMPLETED"}

    def versions(self) -> set[tuple[str, ...]]:
        return set(self.rows(member.c.version, member.c.revision))

    def close(self) -> None:
        self._engine.dispose()


@pytest.mark.timeout(900)
def test_machines_are_upgraded_one_after_the_other_and_back_while_studies_arrive(
    machines: list[FleetNode], pacs: real_peers.Orthanc, ledger: str, tmp_path: Path
) -> None:
    a, b = machines
    present, newer = a.program, next_version(tmp_path / "newer", ADDS, oldest=NEWEST)
    seen = Ledger(ledger)
    for machine in machines:
        machine.start(*ROLES)
    scanner = Scanner(tmp_path, machines)
    scanner.start()

    def goes_on() -> None:
        """Two studies that arrive from now on are analysed, whichever machine takes them."""
        begun = len(scanner.acknowledged)
        until(lambda: len(scanner.acknowledged) >= begun + 2, 120.0)
        until(lambda: set(scanner.acknowledged[begun : begun + 2]) <= seen.finished(), 120.0)

    try:
        goes_on()
        exchange(b, newer, a)
        assert seen.versions() >= {(__version__, NEWEST), (VERSION, NEXT)}
        goes_on()
        a.power_off()
        a.start(*ROLES)  # the older version starts on tables that the newer one has made
        goes_on()
        exchange(b, present, a)
        goes_on()
    finally:
        scanner.end()
    until(lambda: set(scanner.acknowledged) <= seen.finished(), 180.0)
    states = Counter(seen.rows(job.c.state, job.c.outcome))
    images = Counter(study for (study,) in seen.rows(instance.c.study_instance_uid))
    seen.close()
    assert set(images) == set(scanner.acknowledged)
    assert set(images.values()) == {IMAGES}
    assert states == {("COMPLETED", "findings"): len(scanner.acknowledged)}
    held = Counter(str(pacs.download(uid).StudyInstanceUID) for uid in pacs.instances())
    assert held == dict.fromkeys(scanner.acknowledged, OBJECTS)
    told = b.ainode("account")
    assert told.returncode == 0, told.stdout + told.stderr
