"""Limits of a caller hold on all machines of a fleet, as of their last heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import postgres
import pytest
from certificates import Authority
from fleet_machines import FleetMachine
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.association import Association
from receivers import associate, until

from node.config import Ae, Caller
from node.receive import rate_limit

CT = [(CTImageStorage, ExplicitVRLittleEndian)]


@pytest.fixture
def idle_machines(tmp_path: Path, postgres_server: str, authority: Authority) -> Iterator[list[FleetMachine]]:
    """Title CT1 may have three associations, and an address ask for twelve in a minute."""
    url = postgres.new_database(postgres_server, "limits" + tmp_path.name[-40:].lower())
    with ExitStack() as stack:
        both = [FleetMachine(tmp_path / name, url, authority) for name in ("a", "b")]
        for machine in both:
            stack.callback(machine.close)
            callers = (Caller(title="CT1", max_associations=3), Caller(title="CT2"))
            keys = {"callers": callers, "associations_per_minute": 12}
            ae = Ae.model_validate({**machine.config.ae.model_dump(), **keys})
            machine.config = machine.config.model_copy(update={"ae": ae})
        yield both


@contextmanager
def receiving(machine: FleetMachine) -> Iterator[None]:
    with machine.receiving(f"{machine.spool.folder.name}/1", 0.2):
        yield


@pytest.fixture
def machines(idle_machines: list[FleetMachine]) -> Iterator[list[FleetMachine]]:
    """Both receive."""
    with receiving(idle_machines[0]), receiving(idle_machines[1]):
        yield idle_machines


def call(machine: FleetMachine, title: str = "CT1") -> Association:
    return associate(machine, CT, calling=title)  # type: ignore[arg-type]


def refusal(association: Association) -> tuple[int, int, int]:
    """Result, source and reason."""
    assert association.is_rejected
    answer = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def accepts(machine: FleetMachine) -> bool:
    """Whether it takes an association of CT1, which ends at once."""
    association = call(machine)
    if association.is_established:
        association.release()
    return not association.is_rejected


def test_associations_of_a_title_are_counted_on_both_machines(machines: list[FleetMachine]) -> None:
    a, b = machines
    held = [call(a), call(a)]
    assert all(association.is_established for association in held)
    until(lambda: b.held_elsewhere() == {"OF_TITLE CT1": 2, "RATE 127.0.0.1": 2})
    third = call(b)
    assert third.is_established
    assert refusal(call(b)) == (2, 3, 2)
    assert call(b, "CT2").is_established, "the limit is that of CT1"
    until(lambda: a.held_elsewhere().get("OF_TITLE CT1") == 1)
    assert refusal(call(a)) == (2, 3, 2)
    held[0].release()
    until(lambda: b.held_elsewhere().get("OF_TITLE CT1") == 1)
    assert accepts(b)


def test_requests_of_an_address_are_counted_on_both_machines(machines: list[FleetMachine]) -> None:
    a, b = machines
    for _ in range(10):
        call(a, "CT2").release()
    until(lambda: b.held_elsewhere().get("RATE 127.0.0.1") == 10)
    assert accepts(b)
    assert accepts(b)
    assert refusal(call(b)) == (2, 3, 1)


def test_requests_stop_counting_after_a_minute_though_their_machine_gets_no_more(
    machines: list[FleetMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machines
    for _ in range(12):
        call(a, "CT2").release()
    until(lambda: b.held_elsewhere().get("RATE 127.0.0.1") == 12)
    assert refusal(call(b)) == (2, 3, 1)
    monkeypatch.setattr(rate_limit, "SECONDS", 0.0)
    until(lambda: "RATE 127.0.0.1" not in b.held_elsewhere(), 10.0)
    assert accepts(b)


def test_what_a_machine_held_does_not_count_when_it_has_left(idle_machines: list[FleetMachine]) -> None:
    a, b = idle_machines
    with receiving(b):
        with receiving(a):
            held = [call(a) for _ in range(3)]
            until(lambda: b.held_elsewhere().get("OF_TITLE CT1") == 3)
            assert refusal(call(b)) == (2, 3, 2)
            for association in held:
                association.abort()
        until(lambda: not b.held_elsewhere())
        assert accepts(b)
