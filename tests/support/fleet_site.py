"""A fleet of machines in a network of their own, as ``ainode demo --machines`` makes it, with pipeline ``bright``."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from whole_node import configuration

from node.config import parse
from node.demo.database import database
from node.demo.fleet import Fleet, fleet
from node.demo.hospital_network import HERE, check_rights
from node.demo.machine import Machine
from node.demo.pacs import TITLE, Pacs, make_pacs
from node.errors import PlatformError
from node.ledger.engine import open_ledger

_SUPPORT = Path(__file__).parent
_NO_ANSWER_SECONDS = 30.0
"""More than a receiver waits for a second copy."""


class FleetSite:
    """The machines, their PACS and their ledger."""

    def __init__(self, running: Fleet, pacs: Pacs) -> None:
        self.machines = tuple(running.machines.values())
        self.pacs = pacs
        self.engine = open_ledger(running.ledger_url)

    def rows(self, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(table)))

    def until(self, condition: Callable[[], object], seconds: float) -> float:
        """Wait, and return how long it took; a database that cannot be reached is waited for, too."""
        begun = time.monotonic()
        while not _is_met(condition):
            if time.monotonic() - begun > seconds:
                pytest.fail("\n".join(f"{of.name}: {of.log()[-3000:]}" for of in self.machines), pytrace=True)
            time.sleep(0.2)
        return time.monotonic() - begun

    def held(self) -> Counter[str]:
        """SOP Instance UIDs in the PACS."""
        return Counter(uid for series in self.pacs.series() for uid in series.sop_instance_uids)


def _is_met(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except sa.exc.OperationalError:
        return False


def start(machine: Machine, *roles: str, clock_seconds: float = 0.0, custom: str = "") -> None:
    """Switch a machine on that is off, and start roles; ``clock_seconds``: how far its clock is ahead.

    ``custom``: a folder beside this file whose ``sitecustomize`` every Python process runs.
    """
    path = [str(_SUPPORT.parents[1]), str(_SUPPORT)]
    if custom:
        path.insert(0, str(_SUPPORT / custom))
    if clock_seconds:
        path.insert(0, str(_SUPPORT / "shifted"))
    machine.environment = {
        "PYTHONPATH": ":".join(path), "OMP_NUM_THREADS": "1", "SHIFT_SECONDS": str(clock_seconds), "AINODE_CONFIG": "",
    }  # fmt: skip
    if not machine.is_on:
        machine.switch_on()
    machine.start(*roles)


def title(machine: Machine) -> str:
    return machine.name.upper()


@contextmanager
def fleet_site(
    folder: Path,
    names: Sequence[str],
    *,
    storage: str = "",
    rules: str = "",
    ledger: Callable[[str], AbstractContextManager[str]] = database,
) -> Iterator[FleetSite]:
    """Machines that are off; ``storage``: more lines of its table; ``rules``: in place of the one for everything.

    ``ledger``: starts the database and yields its URL.
    """
    try:
        check_rights()
    except PlatformError as error:
        pytest.skip(str(error))
    with fleet(folder, tuple(names), ledger) as running:
        machines = running.machines.values()
        callers = {title(of): (of.address, of.port) for of in machines}
        pacs = make_pacs(folder / "pacs", callers, HERE)
        for machine in machines:
            text = configuration(
                machine.storage,
                machine.port,
                (TITLE, pacs.port),
                processes=1,
                storage=f"{running.storage()}\n{storage}",
                extra=running.table(machine),
            )
            text = text.replace("[ae]", f'[ae]\ntitle = "{title(machine)}"').replace('"127.0.0.1"', '"0.0.0.0"', 1)
            text = text.replace('"127.0.0.1"', f'"{HERE}"')
            machine.config.write_text(text[: text.index("[[rules]]")] + rules if rules else text)
            parse(machine.config.read_text())
        pacs.start()
        site = FleetSite(running, pacs)
        try:
            yield site
        finally:
            site.engine.dispose()
            running.power_off()
            pacs.stop()


def associate(machine: Machine, datasets: Sequence[Dataset]) -> AE:
    """Open an association for these images; it may have been rejected."""
    ae = AE(ae_title="SCANNER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _NO_ANSWER_SECONDS
    for sop_class in sorted({str(dataset.SOPClassUID) for dataset in datasets}):
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    return ae.associate(machine.address, machine.port, ae_title=title(machine))


def store(machine: Machine, datasets: Sequence[Dataset]) -> list[int]:
    """Send images in one association; return the status of each, -1 for those that got no answer."""
    association = associate(machine, datasets)
    statuses = [-1] * len(datasets)
    try:
        for index, dataset in enumerate(datasets):
            if not association.is_established:
                break
            statuses[index] = int(association.send_c_store(dataset).get("Status", -1))
    except (RuntimeError, ValueError):  # the association has ended
        pass
    if association.is_established:
        association.release()
    return statuses


class Scanner(threading.Thread):
    """Sends one study after another to one machine until ``end``."""

    def __init__(self, machine: Machine, studies: Iterator[Sequence[Dataset]], pause_seconds: float) -> None:
        super().__init__(daemon=True)
        self.statuses: Counter[int] = Counter()
        self.studies = 0
        self._machine = machine
        self._source = studies
        self._pause = pause_seconds
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._pause):
            self.statuses.update(store(self._machine, next(self._source)))
            self.studies += 1

    def end(self) -> None:
        self._ended.set()
        self.join()
