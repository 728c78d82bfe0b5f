"""How long ``ainode verify --fleet`` takes, and what it does for each study.

``python tests/support/fleet_verification.py --studies 1000`` records studies of three small images in a PostgreSQL
ledger, each with files on two of three machines, serves the files of each machine in a process of its own, and prints
seconds, CPU time, statements and TLS handshakes of the verification.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.synchronize
import resource
import shutil
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import postgres
import sqlalchemy as sa
from certificates import Authority
from fleet_machines import FleetMachine
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.ledger.engine import begin_immediate, now
from node.ledger.holdings import file_services, folder_of, record_holdings
from node.ledger.instances import Receipt
from node.operate.verify_copies import verify_copies
from node.receive.receipt_recording import record_receipts

IMAGES = 3
"""Of each study."""


def serve(machine: FleetMachine, end: multiprocessing.synchronize.Event) -> None:
    """Be the file service of a machine."""
    machine.engine.dispose(close=False)  # whose connections are those of the parent
    machine.serve()
    end.wait()
    machine.close()


def receive(machine: FleetMachine, other: FleetMachine, study: str, size: int) -> list[Receipt]:
    """Store a study of images on two machines; what is in them is not looked at."""
    series, receipts = f"{study}.1", list[Receipt]()
    for number in range(IMAGES):
        sop = f"{series}.{number}"
        stored = machine.spool.keep(study, series, sop, [sop.encode().ljust(size, b"\0")])
        copy = other.spool.absolute(stored.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(machine.spool.absolute(stored.path), copy)
        receipts.append(
            Receipt(
                sop_instance_uid=sop, sop_class_uid=CTImageStorage, transfer_syntax_uid=ExplicitVRLittleEndian,
                study_instance_uid=study, series_instance_uid=series, modality="CT", path=stored.path,
                digest=stored.digest, size=stored.size, conflict=False, association=None, received_at=now(),
                copy_machine=other.spool.machine,
            )
        )  # fmt: skip
    return receipts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--bytes", type=int, default=2000, help="of each image")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, postgres.cluster() as url:
        authority = Authority(Path(folder) / "authority")
        machines = [
            FleetMachine(Path(folder) / name, url, authority, copies=2, durability="process")
            for name in ("a", "b", "c")
        ]
        for at, machine in enumerate(machines):
            other = machines[(at + 1) % 3]
            studies = (f"1.2.3.{number}" for number in range(at, chosen.studies, 3))
            receipts = [of for study in studies for of in receive(machine, other, study, chosen.bytes)]
            with begin_immediate(machine.engine) as connection:
                record_receipts(connection, machine.spool, receipts)
                record_holdings(connection, other.spool.machine, [folder_of(of.path) for of in receipts])
        fork, services = multiprocessing.get_context("fork"), []
        end = fork.Event()
        for machine in machines:
            services.append(fork.Process(target=serve, args=(machine, end), daemon=True))
            services[-1].start()
        here = machines[0]
        while services_of(here) < len(machines):
            time.sleep(0.1)
        measure(here)
        end.set()
        for service in services:
            service.join()
        print(f"file services: {cpu_seconds(resource.RUSAGE_CHILDREN):.1f} s of CPU time with the ledger's server")
        for machine in machines:
            machine.engine.dispose()


def services_of(machine: FleetMachine) -> int:
    """How many file services the ledger knows."""
    with machine.engine.connect() as connection:
        return len(file_services(connection))


def cpu_seconds(who: int) -> float:
    """The CPU time of this process, or of its children that have ended."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def measure(machine: FleetMachine) -> None:
    """Verify once and print what it took."""
    counts = {"statements": 0, "handshakes": 0}

    def executed(*_of: object) -> None:
        counts["statements"] += 1

    def secured(context: ssl.SSLContext, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        counts["handshakes"] += 1
        return wrap(context, *arguments, **named)

    wrap = ssl.SSLContext.wrap_socket
    sa.event.listen(machine.engine, "before_cursor_execute", executed)
    begun, used = time.monotonic(), cpu_seconds(resource.RUSAGE_SELF)
    with mock.patch.object(ssl.SSLContext, "wrap_socket", secured):
        of = verify_copies(machine.engine, machine.spool)
    print(
        f"{sum(of.copies.values())} files, copies {dict(of.copies)}, {of.faults} faults: "
        f"{time.monotonic() - begun:.1f} s, {cpu_seconds(resource.RUSAGE_SELF) - used:.1f} s of CPU time, {counts}"
    )


if __name__ == "__main__":
    main()
