"""The clock of one machine is an hour off: series, deadlines and proofs follow the clock of the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
from dicom_files import ct_series
from machines import Machine
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import associate, send_dataset, until

from node.ledger.states import SeriesState
from node.ledger.tables import association, instance, series

HOUR = 3600.0
PAUSE_SECONDS = 1.0
"""Between two images, each in an association of its own; less than the quiet period."""


@pytest.fixture
def machines(tmp_path: Path, postgres_server: str) -> Iterator[tuple[Machine, Machine]]:
    """A receiver and a router that share a ledger."""
    url = postgres.new_database(postgres_server, tmp_path.name[-40:])
    both = Machine(tmp_path, "receiver", tmp_path / "data", url), Machine(tmp_path, "router", tmp_path / "data", url)
    yield both
    for machine in both:
        machine.power_off()
        machine.node.engine.dispose()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("receiver_ahead", "router_ahead"), [(-HOUR, 0.0), (HOUR, 0.0), (0.0, HOUR)])
def test_a_series_is_one_generation_whatever_the_clock_of_a_machine_says(
    machines: tuple[Machine, Machine], receiver_ahead: float, router_ahead: float
) -> None:
    receiver, router = machines
    receiver.start("receiver", receiver_ahead)
    router.start("router", router_ahead)
    for machine in machines:
        machine.wait_until_ready()
    for image in ct_series(10, 16):
        sender = associate(receiver, [(CTImageStorage, ExplicitVRLittleEndian)])  # type: ignore[arg-type]
        assert send_dataset(sender, image).Status == 0x0000
        sender.release()
        time.sleep(PAUSE_SECONDS)
    ended = time.time()
    node = receiver.node
    until(lambda: [row.state for row in node.rows(series)] == [SeriesState.COMPLETE])
    [of_series] = node.rows(series)
    assert (of_series.generation, of_series.instances) == (1, 10)
    assert ended - 30.0 < of_series.last_at < of_series.completed_at < time.time() + 1.0
    assert of_series.last_at + 2.0 < of_series.completed_at
    times = [row.received_at for row in node.rows(instance)]
    times += [at for row in node.rows(association) for at in (row.opened_at, row.closed_at)]
    assert all(ended - 60.0 < at < ended + 5.0 for at in times)
