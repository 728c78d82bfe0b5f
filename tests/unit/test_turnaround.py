"""Turnaround from the last image to the proof, by pipeline and scanner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from analysis_facts import facts
from hypothesis import given
from hypothesis import strategies as st
from ledgers import open_copy

from node.ledger.analysis_statistics import record_statistics
from node.ledger.decisions import NewDecision, record_decision
from node.ledger.engine import begin_immediate
from node.ledger.states import DecisionOutcome
from node.ledger.tables import decision, delivery, job, series
from node.ledger.turnaround import DeliveredAnalysis, arrived_since
from node.operate.turnaround import by_hour, turnarounds
from node.reasons import ReasonCode, reason

AT = 1_800_000_000.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    opened = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    opened.dispose()


def add(engine: sa.Engine, name: str, ended: float, *, state: str = "CONFIRMED", scanner: str = "") -> None:
    """A job whose series got its last image at ``AT`` and whose destinations were done ``ended`` seconds later."""
    of = {"study_instance_uid": name, "series_instance_uid": f"{name}.1"}
    row = {"pipeline": "nodule", "rule": "r", "run": 0, "destinations": [], "priority": 2, "attempt": 0}
    times = {"created_at": AT, "updated_at": AT + ended}
    with begin_immediate(engine) as connection:
        connection.execute(
            series.insert().values(
                **of, modality="CT", instances=1, first_at=AT - 60, last_at=AT, state="COMPLETE", generation=1
            )
        )
        record_decision(
            connection,
            NewDecision(
                **of,
                generation=1,
                outcome=DecisionOutcome.ROUTED,
                reason=reason(ReasonCode.STATED, text="routed"),
                trace=[],
                decided_at=AT + 1,
                cause=None,
                incomplete=None,
                caveat=None,
                characteristics=None,
            ),
        )
        connection.execute(
            job.insert().values(id=name, **of, **row, **times, generation=1, state="COMPLETED", stage="deliver")
        )
        for number, destination in enumerate(("first", "second")):
            done = {"created_at": AT, "updated_at": AT + ended - number, "ended_at": AT + ended - number}
            connection.execute(
                delivery.insert().values(job_id=name, destination=destination, state=state, attempt=0, **done)
            )
        if scanner:
            more = {"outcome": "findings", "scores": [], "device": "cpu", "run_seconds": 1.0, "host_mib": 1.0}
            record_statistics(connection, name, "nodule", {**facts(1, 1)[0], **more, "scanner": scanner})


def seconds(engine: sa.Engine, since: float = AT) -> dict[str, float]:
    with engine.connect() as connection:
        return {one.scanner: one.seconds for one in arrived_since(connection, since)}


def test_the_last_destination_counts(engine: sa.Engine):
    add(engine, "1.1", 90.0, scanner="CT One")
    assert seconds(engine) == {"CT One": 90.0}
    assert seconds(engine, AT + 91) == {}


def test_a_destination_without_proof_counts_when_all_is_stored(engine: sa.Engine):
    add(engine, "1.1", 40.0, state="STORED")
    assert seconds(engine) == {"": 40.0}


@pytest.mark.parametrize("state", ["SCHEDULED", "IN PROGRESS", "CANCELED"])
def test_what_has_not_arrived_everywhere_does_not_count(engine: sa.Engine, state: str):
    add(engine, "1.1", 40.0)
    with begin_immediate(engine) as connection:
        connection.execute(delivery.update().where(delivery.c.destination == "second").values(state=state))
    assert seconds(engine) == {}


def test_images_that_come_after_an_analysis_do_not_change_its_turnaround(engine: sa.Engine):
    add(engine, "1.1", 40.0)
    late_image = {"last_at": AT + 500, "state": "RECEIVING"}
    next_generation = {"state": "COMPLETE", "generation": 2}
    for change in (late_image, next_generation):
        with begin_immediate(engine) as connection:
            connection.execute(series.update().values(**change))
        assert seconds(engine) == {"": 40.0}


def test_an_analysis_of_an_older_version_whose_last_image_is_not_known_does_not_count(engine: sa.Engine):
    add(engine, "1.1", 40.0)
    with begin_immediate(engine) as connection:
        connection.execute(decision.update().values(last_image_at=None))
    assert seconds(engine) == {}


def arrived(scanner: str, taken: float, at: float = AT) -> DeliveredAnalysis:
    return DeliveredAnalysis(pipeline="nodule", scanner=scanner, last_image_at=at - taken, arrived_at=at)


def test_percentiles_are_values_that_occurred():
    (one, two) = turnarounds([*(arrived("A", n) for n in range(1, 11)), arrived("B", 7)])
    assert (one.scanner, one.analyses, one.quantiles, one.longest) == ("A", 10, {0.5: 5, 0.9: 9, 0.99: 10}, 10)
    assert (two.scanner, two.quantiles, two.longest) == ("B", {0.5: 7, 0.9: 7, 0.99: 7}, 7)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_rise_and_none_is_longer_than_the_longest(taken: list[float]):
    (one,) = turnarounds(
        DeliveredAnalysis(pipeline="p", scanner="", last_image_at=0.0, arrived_at=seconds_taken)
        for seconds_taken in taken
    )
    values = [*one.quantiles.values(), one.longest]
    assert values == sorted(values)
    assert set(values) <= set(taken)


def test_hours_are_apart():
    found = by_hour([arrived("A", 5, AT), arrived("B", 9, AT + 10), arrived("A", 3, AT + 7200)])
    assert [(hour, one.analyses, one.longest) for hour, one in found] == [(AT, 2, 9), (AT + 7200, 1, 3)]
    assert AT % 3600 == 0


def test_a_clock_that_was_set_back_makes_no_negative_time():
    assert arrived("A", -30).seconds == 0
