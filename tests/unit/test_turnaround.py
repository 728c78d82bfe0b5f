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
from node.ledger.events import EventKind
from node.ledger.states import DecisionOutcome
from node.ledger.tables import decision, delivery, delivery_instance, event, job, job_fact, series
from node.ledger.turnaround import DeliveredAnalysis, StageTimes, arrived_since, stages_by_pipeline
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.operate.turnaround import STAGES, by_hour, median_stages, stages, turnarounds
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
        return {analysis.scanner: analysis.seconds for analysis in arrived_since(connection, since)}


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
    of = {"job_id": "j", "study_instance_uid": "1.1", "pipeline": "nodule", "scanner": scanner}
    return DeliveredAnalysis(**of, last_image_at=at - taken, arrived_at=at)


def test_percentiles_are_values_that_occurred():
    (first, second) = turnarounds([*(arrived("A", n) for n in range(1, 11)), arrived("B", 7)])
    assert (first.scanner, first.analyses, first.quantiles, first.longest) == ("A", 10, {0.5: 5, 0.9: 9, 0.99: 10}, 10)
    assert (second.scanner, second.quantiles, second.longest) == ("B", {0.5: 7, 0.9: 7, 0.99: 7}, 7)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_rise_and_none_is_longer_than_the_longest(taken: list[float]):
    (figures,) = turnarounds(arrived("", seconds_taken, seconds_taken) for seconds_taken in taken)
    values = [*figures.quantiles.values(), figures.longest]
    assert values == sorted(values)
    assert set(values) <= set(taken)


def test_hours_are_apart():
    hours = by_hour([arrived("A", 5, AT), arrived("B", 9, AT + 10), arrived("A", 3, AT + 7200)])
    assert [(hour, figures.analyses, figures.longest) for hour, figures in hours] == [(AT, 2, 9), (AT + 7200, 1, 3)]
    assert AT % 3600 == 0


def test_a_clock_that_was_set_back_makes_no_negative_time():
    assert arrived("A", -30).seconds == 0


PASSED = {
    "last_image_at": AT,
    "scheduled_at": AT + 30,
    "begun_at": AT + 100,
    "analysed_at": AT + 140,
    "encoded_at": AT + 150,
    "sent_at": AT + 155,
    "arrived_at": AT + 160,
}


def test_the_stages_of_an_analysis_are_its_turnaround():
    seconds = stages(StageTimes(job_id="j", **PASSED))
    assert tuple(seconds) == STAGES
    assert list(seconds.values()) == [30, 70, 40, 10, 5, 5]
    waiting = StageTimes(job_id="j", **(PASSED | dict.fromkeys(list(PASSED)[2:])))
    assert stages(waiting) == {"waiting for completeness": 30}
    assert median_stages([waiting, StageTimes(job_id="j", **PASSED)])["waiting for a device"] == 70


@given(st.lists(st.floats(-100, 1e6), min_size=6, max_size=6))
def test_no_stage_is_negative_and_together_they_end_when_the_last_one_does(ends: list[float]):
    times = dict(zip(list(PASSED)[1:], ends, strict=True))
    seconds = stages(StageTimes(job_id="j", last_image_at=0.0, **times))
    assert min(seconds.values()) >= 0
    assert sum(seconds.values()) == pytest.approx(max(0.0, *ends))


def attempt(engine: sa.Engine, job_id: str, stage: str, begin: float, end: float) -> None:
    """An attempt of a job in its timeline."""
    with begin_immediate(engine) as connection:
        for kind, at in ((EventKind.ATTEMPT_STARTED, begin), (EventKind.ATTEMPT_FINISHED, end)):
            of = {"study_instance_uid": job_id, "job_id": job_id, "kind": kind, "stage": stage, "parameters": {}}
            connection.execute(event.insert().values(**of, at=AT + at, attempt=1))


def test_the_ledger_says_what_the_time_went_to_and_which_analyses_were_in_front(engine: sa.Engine):
    for name, end in (("1.1", 40.0), ("1.2", 90.0)):
        add(engine, name, end + 20, scanner="CT")
        attempt(engine, name, "infer", end - 30, end)
        attempt(engine, name, "encode", end, end + 10)
        with begin_immediate(engine) as connection:
            connection.execute(job_fact.update().where(job_fact.c.job_id == name).values(at=AT + end))
            of = {"job_id": name, "destination": "first", "sop_instance_uid": "1.5"}
            connection.execute(delivery_instance.insert().values(**of, sent_at=AT + end + 12))
    with engine.connect() as connection:
        staged = stages_by_pipeline(connection, arrived_since(connection, AT))
        first, second = (stages(times) for times in staged["nodule"])
        assert list(first.values()) == [0, 10, 30, 10, 2, 8]
        assert list(second.values()) == [0, 60, 30, 10, 2, 8]
        assert sum(second.values()) == arrived_since(connection, AT)[-1].seconds == 110
    (work,) = explain(engine, "1.2")["series"][0]["jobs"]
    assert [analysis["job_id"] for analysis in work["waited_for"]] == ["1.1"]
    words = "\n".join(describe(explain(engine, "1.2")).splitlines())
    assert "waited for a device behind 1 analysis: job 1.1 (nodule)" in words
    assert "time: waiting for completeness 0.0 s, waiting for a device 60 s, analysis 30 s, encoding 10 s" in words


def test_a_job_that_waits_names_what_runs(engine: sa.Engine):
    for name, state in (("1.1", "IN PROGRESS"), ("1.2", "SCHEDULED")):
        add(engine, name, 0.0)
        with begin_immediate(engine) as connection:
            connection.execute(job.update().where(job.c.id == name).values(state=state, stage="infer"))
    assert "waits for a device; 1 analysis runs: job 1.1 (nodule)" in describe(explain(engine, "1.2"))
