"""The demonstration on several machines: each image is on two of them before it is acknowledged, and all work on it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from node.demo import scanner
from node.demo.configuration import write_configuration
from node.demo.display import describe, follow, new_console, phantoms, show_results
from node.demo.fleet import Fleet, fleet
from node.demo.hospital_network import HERE, check_rights
from node.demo.machine import Machine
from node.demo.pacs import TITLE, Callers, Pacs, make_pacs
from node.demo.run import prepare
from node.errors import PlatformError
from node.ledger.engine import open_ledger

_PRINTED = 60
"""Most lines of a verb that are shown."""


def run_fleet_demo(studies: Path | None, folder: Path, machines: int, *, keep: bool = False) -> int:
    """Run the demonstration on this number of machines; as ``run_demo`` for the rest.

    Exit status 1 also if a file has fewer copies than two. Raises ``PlatformError`` where machines cannot be made.
    """
    check_rights()
    console = new_console()
    prepare(folder)
    names = tuple(f"ai{number}" for number in range(1, machines + 1))
    with fleet(folder, names) as running, _pacs(folder / "pacs", running) as pacs:
        console.print(f"[bold]PACS[/]     {describe(pacs)}")
        console.print(f"[bold]Database[/] PostgreSQL at {HERE}")
        truths = [] if studies else phantoms(folder / "phantoms", console)
        files = scanner.find(studies or folder / "phantoms")
        _start(running, pacs)
        for machine in running.machines.values():
            console.print(f"[bold]Machine[/]  {_title(machine)} at {machine.address}:{machine.port}, {machine.config}")
        scanner.send(files, (pacs.host, pacs.port), TITLE)
        console.print(f"[bold]Scanner[/]  {len(files)} images to {TITLE}")
        _send(console, files, tuple(running.machines.values()))

        def watch() -> None:
            for machine in running.machines.values():
                if not machine.running():
                    raise PlatformError(f"{machine.name} has ended; see its log in {machine.folder}")
            if not pacs.running():
                raise PlatformError(f"the PACS has ended; see its log in {folder / 'pacs'}")

        engine = open_ledger(running.ledger_url)
        rows = follow(console, watch, files, engine)
        engine.dispose()
        show_results(console, pacs, truths, folder / "pictures", keep=keep)
        first = next(iter(running.machines.values()))
        verified = [_show(console, first, *verb) for verb in (("fleet",), ("verify", "--fleet"))]
        if keep:
            _stay(console, running)
        return 0 if all(row.good for row in rows) and not any(verified) else 1


@contextmanager
def _pacs(folder: Path, running: Fleet) -> Iterator[Pacs]:
    machines = running.machines.values()
    callers: Callers = {_title(machine): (machine.address, machine.port) for machine in machines}
    pacs = make_pacs(folder, {scanner.TITLE: (HERE, 1), **callers}, HERE)
    pacs.start()
    try:
        yield pacs
    finally:
        pacs.stop()


def _title(machine: Machine) -> str:
    return machine.name.upper()


def _start(running: Fleet, pacs: Pacs) -> None:
    for machine in running.machines.values():
        write_configuration(
            machine.config,
            _title(machine),
            ("0.0.0.0", machine.port),  # noqa: S104 - of a network that has nobody else
            machine.storage,
            pacs,
            storage=running.storage(),
            tables=running.table(machine),
        )
        machine.switch_on()
        machine.start()
        machine.wait_until_ready()  # one by one: the processes of a machine that are too slow to start are replaced


def _send(console: Console, files: Sequence[scanner.DicomFile], machines: Sequence[Machine]) -> None:
    """Send the first series to the first machine, the second one to the next, and so on."""
    series = list(dict.fromkeys(file.series_instance_uid for file in files))
    for number, machine in enumerate(machines):
        own = [file for file in files if series.index(file.series_instance_uid) % len(machines) == number]
        if own:
            tool = scanner.send(own, (machine.address, machine.port), _title(machine))
            console.print(f"[bold]Scanner[/]  {len(own)} images to {_title(machine)} with {tool}")


def _show(console: Console, machine: Machine, verb: str, *options: str) -> int:
    done: subprocess.CompletedProcess[str] = machine.ainode(verb, *options)
    console.print(f"[bold]{' '.join(('ainode', verb, *options))}[/]")
    for line in (done.stdout + done.stderr).splitlines()[:_PRINTED]:
        console.print(f"  {line}", markup=False, highlight=False)
    return done.returncode


def _stay(console: Console, running: Fleet) -> None:
    console.print("PACS and machines stay up; Ctrl-C ends them. A shell on one of them:")
    for machine in running.machines.values():
        console.print(f"  {machine.name}: {machine.shell()}", highlight=False)
    try:
        while all(machine.running() for machine in running.machines.values()):
            subprocess.run(["sleep", "1"], check=False)
    except KeyboardInterrupt:
        console.print("ending")
