"""Faults of a fleet, one after the other, each repaired before the next one: two copies survive one loss at a time."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import sqlalchemy as sa
from fleet_database import DatabasePair
from fleet_site import FleetSite, start

from node.demo.machine import Machine
from node.isolation.libc import call
from node.ledger.tables import holding, instance, missing_copy
from node.spool.machine import machine_id

KINDS = ("kill", "network", "power", "outage", "kill", "disk", "clock", "promotion", "full")
HOUR = 3600.0
_ROOM_MIB = 512
_NEW_MOUNTS = 0x00020000
"""CLONE_NEWNS (linux/sched.h)."""
_COPIES_SECONDS = 1800.0
_ROWS_SECONDS = 240.0
"""On a busy machine; the figure is printed."""


@contextmanager
def disks(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Give each machine a small file system of its own, in mounts that only this thread and what it starts can see."""
    call("unshare", _NEW_MOUNTS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for name in names:
        storage = folder / name / "storage"
        storage.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM_MIB}m", "tmpfs", storage], check=True)
    try:
        yield
    finally:
        for name in names:
            subprocess.run(["umount", "--lazy", folder / name / "storage"], check=True)


class Faults:
    """Makes them at machines drawn by chance, the kinds in turn."""

    def __init__(self, site: FleetSite, database: DatabasePair, acknowledged: Collection[str]) -> None:
        """``acknowledged``: the images so far; it grows."""
        self.made: Counter[str] = Counter()
        self.rows_seconds: list[float] = []
        """How long after each promotion every image that was acknowledged by then had its row."""
        self._site = site
        self._pair = database
        self._acknowledged = acknowledged
        self._destroyed: list[str] = []
        """Ids of the machines whose disks are gone."""
        self._dice = random.Random(7)

    def make(self, number: int) -> None:
        begun, machine, kind = time.monotonic(), self._dice.choice(self._site.machines), KINDS[number % len(KINDS)]
        getattr(self, f"_{kind}")(machine)
        self.made[kind] += 1
        seconds = time.monotonic() - begun
        print(f"{number + 1}: {kind} at {machine.name}, {seconds:.0f} s", flush=True)  # noqa: T201 - the proof is shown

    def _kill(self, machine: Machine) -> None:
        """Kill -9 of one process, the supervisor perhaps; who supervises the supervisor starts it again."""
        process = self._dice.choice(processes(machine))
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
        time.sleep(self._dice.uniform(3.0, 10.0))
        if not machine.running():
            machine.stop()
            self._start(machine)

    def _network(self, machine: Machine) -> None:
        machine.cut()
        time.sleep(self._dice.uniform(1.0, 30.0))
        machine.repair()

    def _power(self, machine: Machine) -> None:
        machine.power_off()
        time.sleep(self._dice.uniform(0.0, 20.0))
        self._start(machine)

    def _clock(self, machine: Machine) -> None:
        """It starts with another clock, which it has until it is started the next time."""
        machine.power_off()
        self._start(machine, self._dice.choice((-HOUR, HOUR)))

    def _full(self, machine: Machine) -> None:
        ballast = machine.storage / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        time.sleep(self._dice.uniform(5.0, 20.0))
        ballast.unlink()

    def _disk(self, machine: Machine) -> None:
        self._wait_for_copies()
        lost = machine_id(machine.storage)
        machine.destroy_disk()
        self._destroyed.append(lost)
        self._abandon(lost, [of for of in self._site.machines if of is not machine])
        self._start(machine)
        self._wait_for_copies()

    def _outage(self, _machine: Machine) -> None:
        self._pair.cut()
        time.sleep(self._dice.uniform(1.0, 30.0))
        self._pair.repair()

    def _promotion(self, _machine: Machine) -> None:
        self._pair.fail_over()
        acknowledged = set(self._acknowledged)
        self.rows_seconds.append(self._site.until(lambda: acknowledged <= self._recorded(), _ROWS_SECONDS))
        for lost in self._destroyed:  # the replica may not have received that it was abandoned
            self._abandon(lost, self._site.machines)

    def _abandon(self, lost: str, others: Sequence[Machine]) -> None:
        def is_abandoned() -> bool:
            if lost in {row.machine for row in self._site.rows(holding)}:
                self._dice.choice(others).ainode("fleet", "--abandon", lost)
                return False
            return True

        self._site.until(is_abandoned, 180.0)

    def _start(self, machine: Machine, clock_seconds: float = 0.0) -> None:
        start(machine, clock_seconds=clock_seconds)
        machine.wait_until_ready()

    def _wait_for_copies(self) -> None:
        """Until every file that has one copy now has two; results meanwhile add others, for seconds each."""
        missing: set[str] = set()

        def is_known() -> bool:
            missing.update(row.path for row in self._site.rows(missing_copy))
            return True

        self._site.until(is_known, 60.0)
        self._site.until(lambda: missing.isdisjoint(row.path for row in self._site.rows(missing_copy)), _COPIES_SECONDS)

    def _recorded(self) -> set[str]:
        with self._site.engine.connect() as connection:
            return set(connection.scalars(sa.select(instance.c.sop_instance_uid)))


def processes(machine: Machine) -> list[psutil.Process]:
    """Return the processes of the node on this machine."""
    space = Path(f"/proc/{machine.pid}/ns/pid").readlink()
    processes = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            of = Path(f"/proc/{process.pid}/ns/pid").readlink()
            if of == space and "python" in process.name():
                processes.append(process)
    return processes
