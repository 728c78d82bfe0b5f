"""What a second copy costs: images a second with ``copies = 1`` and ``copies = 2``, over cables of limited rates.

``python tests/support/second_copy_throughput.py --images 400`` (as root) makes two machines in network namespaces,
sends CT images of 0.53 MB to one of them with dcmsend (dcmtk), and prints the rates beside those of the disk and the
cables. Sender, both machines and the database share the processors. ``--delay 0.5`` lets every packet take half a
millisecond from one machine to the other.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import long_cable
from fleet_site import FleetSite, fleet_site, start, title
from real_peers import dcmtk

from node.bench.instances import Kind, ct, write_files
from node.demo.machine import Machine
from node.ledger.tables import instance

NAMES = ("a", "b")
ROLES = ("receiver", "files")
_NUMBERS = itertools.count(0, 1_000_000)


@contextmanager
def machines(folder: Path, copies: int) -> Iterator[FleetSite]:
    """Two machines that receive, and do nothing else."""
    with fleet_site(folder, NAMES) as site:
        for machine in site.machines:
            machine.config.write_text(machine.config.read_text().replace("copies = 2", f"copies = {copies}"))
            start(machine, *ROLES)
            machine.wait_until_ready(*ROLES)
        yield site


def limit(machine: Machine, gbit: float) -> None:
    """Give the cable of a machine a rate, in both directions."""
    inside = ("nsenter", "--net", "--target", str(machine.pid), "tc", "qdisc", "replace", "dev", "eth0")
    for command in (("tc", "qdisc", "replace", "dev", machine.name), inside):
        rate = ("root", "tbf", "rate", f"{gbit:g}gbit", "burst", "1mb", "latency", "50ms")
        subprocess.run([*command, *rate], check=True)


def prepared(folder: Path, kind: Kind, images: int, associations: int) -> list[Path]:
    """Write images that nobody has, a folder for each association."""
    folders = [folder / f"sent-{number}" for number in range(associations)]
    for of in folders:
        shutil.rmtree(of, ignore_errors=True)
        write_files(kind, of, next(_NUMBERS), images // associations)
    return folders


def seconds_to_send(machine: Machine, folders: list[Path]) -> float:
    """Send each folder on an association of its own."""
    begun = time.monotonic()
    with ThreadPoolExecutor(len(folders)) as pool:
        where = ("-aec", title(machine), machine.address, machine.port)
        for done in [pool.submit(dcmtk, "dcmsend", *where, "--scan-directories", of) for of in folders]:
            done.result()
    return time.monotonic() - begun


def disk_rate(folder: Path, kind: Kind, images: int, associations: int) -> float:
    """Images a second that as many threads write, each with a sync."""

    def write(number: int) -> None:
        with (folder / f"disk-{number}").open("wb") as file:
            file.write(kind.data)
            file.flush()
            os.fsync(file.fileno())

    begun = time.monotonic()
    with ThreadPoolExecutor(associations) as pool:
        list(pool.map(write, range(images)))
    return images / (time.monotonic() - begun)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=400)
    options.add_argument("--associations", type=int, default=4)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--gbit", type=float, nargs="+", default=[1.0, 10.0])
    options.add_argument("--delay", type=float, default=0.0, help="milliseconds from machine to machine")
    options.add_argument("--folder", type=Path, default=Path(), help="on the disk that is measured")
    given, kind = options.parse_args(), ct()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name).absolute()
        print(f"disk: {disk_rate(folder, kind, given.images, given.associations):.0f} images/s")  # noqa: T201
        for copies in (1, 2, 1, 2):
            with ExitStack() as opened:
                site = opened.enter_context(machines(folder / str(next(_NUMBERS)), copies))
                if given.delay:
                    for machine in site.machines:
                        opened.callback(long_cable.lengthen(machine.name, given.delay / 2).kill)
                warm_up = prepared(folder, kind, 2 * given.associations, given.associations)
                while len(site.rows(instance)) < 2 * given.associations:  # at first no machine knows the other one
                    seconds_to_send(site.machines[0], warm_up)
                    time.sleep(1.0)
                for gbit in given.gbit:
                    for machine in site.machines:
                        limit(machine, gbit)
                    rates = []
                    for _ in range(given.rounds):
                        folders = prepared(folder, kind, given.images, given.associations)
                        rates.append(given.images / seconds_to_send(site.machines[0], folders))
                    cable = gbit * 1000 / 8 / kind.megabytes
                    shown = ", ".join(f"{rate:.0f}" for rate in rates)
                    print(f"copies = {copies}, {gbit:g} Gbit/s ({cable:.0f} images/s): {shown} images/s", flush=True)  # noqa: T201
                sent = (2 * given.associations) + given.images * given.rounds * len(given.gbit)
                site.until(lambda of=site, number=sent: len(of.rows(instance)) == number, 60.0)


if __name__ == "__main__":
    main()
