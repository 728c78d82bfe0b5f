"""A pipeline whose jobs fail one after the other is paused; one bad series or too little memory pauses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from ledgers import open_copy

from node.errors import AdmissionError, InputError, PipelineError
from node.ledger import pipeline_failures
from node.ledger.clock import ledger_clock
from node.ledger.operator_switches import start_pipeline
from node.ledger.pipeline_failures import (
    LONGEST_PAUSE,
    begin_probe,
    failing_pipelines,
    record_failure,
    reset_failures,
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def fail(connection: sa.Connection, *job_ids: str, seconds: float = 0.1, error: Exception | None = None) -> None:
    for job_id in job_ids:
        record_failure(connection, "p", job_id, seconds, error or PipelineError("it crashed"))


def pause(connection: sa.Connection) -> float:
    """Seconds until the pipeline gets a turn, rounded; 0: now."""
    failing = failing_pipelines(connection).get("p")
    at = ledger_clock(connection)
    return round((failing.until or 0.0) - at) if failing is not None and failing.is_paused(at) else 0.0


def test_three_jobs_in_a_row_that_fail_pause_their_pipeline_longer_each_time(connection: sa.Connection) -> None:
    fail(connection, "1", "2")
    assert pause(connection) == 0
    pauses = []
    for job_id in "345678901":
        fail(connection, job_id)
        pauses.append(pause(connection))
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_the_attempts_of_one_series_that_nothing_can_analyse_are_one_failure(connection: sa.Connection) -> None:
    fail(connection, *"1" * 20)
    assert failing_pipelines(connection) == {}


@pytest.mark.parametrize("error", [InputError("unreadable"), AdmissionError("memory"), OSError(28, "full")])
def test_what_is_no_fault_of_the_pipeline_does_not_count(connection: sa.Connection, error: Exception) -> None:
    fail(connection, *"12345", error=error)
    assert failing_pipelines(connection) == {}


def test_a_process_that_died_counts(connection: sa.Connection) -> None:
    for job_id in "123":
        record_failure(connection, "p", job_id, 0.0, None)
    assert pause(connection) == 5


def test_a_pipeline_that_hangs_leaves_nine_tenths_of_the_time_to_others(connection: sa.Connection) -> None:
    fail(connection, *"123", seconds=100.0)
    assert pause(connection) == 900
    fail(connection, "4", seconds=1800.0)
    assert pause(connection) == LONGEST_PAUSE


def test_a_success_and_an_operator_end_the_pause(connection: sa.Connection) -> None:
    for end in (reset_failures, start_pipeline):
        fail(connection, *"123")
        assert pause(connection) == 5
        end(connection, "p")
        assert failing_pipelines(connection) == {}


def test_while_one_attempt_is_tried_no_other_process_begins_another(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(connection, *"123")
    later = ledger_clock(connection) + 6.0
    monkeypatch.setattr(pipeline_failures, "ledger_clock", lambda _: later)
    assert not failing_pipelines(connection)["p"].is_paused(later)
    begin_probe(connection, "p")
    assert failing_pipelines(connection)["p"].is_paused(later)


def test_a_pause_that_began_before_the_clock_was_set_back_is_over(connection: sa.Connection) -> None:
    fail(connection, *"123")
    assert not failing_pipelines(connection)["p"].is_paused(ledger_clock(connection) - 86400.0)
