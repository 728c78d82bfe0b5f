"""Several machines with a disk each, a PostgreSQL and a network of their own: a fleet to demonstrate and to test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from node.demo.database import database
from node.demo.hospital_network import HERE, hospital_network
from node.demo.machine import Machine
from node.fleet.authority import Authority, new_request, write_private

STORAGE = """\
copies = 2
ledger_url = "{ledger_url}"
"""
FLEET = """\
[fleet]
host = "{host}"
certificate = "{folder}/machine.pem"
key = "{folder}/machine.key"
ca = "{folder}/ca.pem"
"""


class Fleet:
    """Machines that share a ledger and no folder. ``machines`` are off until they are switched on."""

    def __init__(self, machines: Mapping[str, Machine], ledger_url: str) -> None:
        self.machines = machines
        self.ledger_url = ledger_url

    def storage(self) -> str:
        """Return the keys of ``[storage]`` that make them a fleet with two copies."""
        return STORAGE.format(ledger_url=self.ledger_url)

    def table(self, machine: Machine) -> str:
        """Return ``[fleet]`` of one machine."""
        return FLEET.format(host=machine.address, folder=machine.folder.as_posix())

    def power_off(self) -> None:
        """End everything on every machine at once."""
        for machine in self.machines.values():
            machine.power_off()


@contextmanager
def fleet(
    folder: Path, names: tuple[str, ...], ledger: Callable[[str], AbstractContextManager[str]] = database
) -> Iterator[Fleet]:
    """A fleet of machines with these names below ``folder``, as long as the ``with`` block lasts.

    ``ledger``: starts a database for an address in that network, and yields its URL. This thread is in the network, at
    ``hospital_network.HERE``. Raises ``PlatformError`` where it cannot be.
    """
    with hospital_network(), ledger(HERE) as url:
        authority = Authority.make()
        machines = {}
        for number, name in enumerate(names, 1):
            machine = Machine(folder / name, name, number)
            key, request = new_request(machine.address)
            write_private(machine.folder / "machine.key", key)
            (machine.folder / "machine.pem").write_bytes(authority.sign(request, machine.address))
            (machine.folder / "ca.pem").write_bytes(authority.pem)
            machines[name] = machine
        new_fleet = Fleet(machines, url)
        try:
            yield new_fleet
        finally:
            new_fleet.power_off()
