"""Metrics say what the ledger says, in the text format of Prometheus; logs as JSON name what they are about."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import ledger_walk
import pytest
import sqlalchemy as sa
from drawn_examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_walk import CONFIG, Walk
from ledgers import open_copy
from prometheus_client.parser import text_string_to_metric_families

from node.ledger.analysis_statistics import record_statistics
from node.ledger.clock import ledger_clock
from node.ledger.counts import files_received_since
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.jobs import Job, NewJob, due_of, get_job, update_job
from node.ledger.operator_switches import pause_destination, stop_pipeline
from node.ledger.tables import delivery, instance, job
from node.ledger.transitions import cancel_job, finish_attempt
from node.log import Json, about
from node.operate.backlog import ASSUMED_SECONDS
from node.operate.metrics import exposition
from node.reasons import ReasonCode, reason
from node.spool import Spool

ROOT = Path(__file__).parents[2]


def scraped(engine: sa.Engine, folder: Path) -> dict[tuple[str, ...], float]:
    """Sample name and label values -> value."""
    text = exposition(CONFIG, engine, Spool(folder)).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.thorough
@settings(max_examples=examples(15), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Walk.STEPS), st.integers(0, 60)), max_size=60))
def test_whatever_has_happened_the_metrics_add_up_to_the_rows(tmp_path_factory, steps: list[ledger_walk.Step]):
    walk = Walk(steps)
    metrics = scraped(walk.engine, tmp_path_factory.mktemp("spool"))
    with walk.engine.connect() as connection:

        def count(table: sa.Table) -> int:
            return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0

        assert metrics["ainode_instances",] == count(instance)
        size, late = sa.func.coalesce(sa.func.sum(instance.c.size), 0), instance.c.received_at > 30.0
        assert metrics["ainode_instance_bytes",] == connection.scalar(sa.select(size))
        assert files_received_since(connection, 30.0).size == connection.scalar(sa.select(size).where(late))
        assert sum(value for key, value in metrics.items() if key[0] == "ainode_jobs") == count(job)
        assert sum(value for key, value in metrics.items() if key[0] == "ainode_deliveries") == count(delivery)
    walk.engine.dispose()


def test_run_times_are_a_histogram_and_switches_are_seen(tmp_path: Path):
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    facts = {
        "outcome": "findings", "scanner": "", "slices": 3, "findings": 1, "scores": [0.5], "device": "cpu",
        "host_mib": 100.0,
    }  # fmt: skip
    with begin_immediate(engine) as connection:
        for number, seconds in enumerate((0.5, 4.0, 4.5, 4000.0)):
            record_statistics(connection, str(number), "one", {**facts, "run_seconds": seconds})
        record_statistics(connection, "3", "one", {**facts, "run_seconds": 4000.0})
        pause_destination(connection, "all", "anna")
        stop_pipeline(connection, "two", "anna")
    metrics = scraped(engine, tmp_path)
    assert metrics["ainode_run_seconds_bucket", "1.0", "one"] == 1
    assert metrics["ainode_run_seconds_bucket", "5.0", "one"] == 3
    assert metrics["ainode_run_seconds_bucket", "+Inf", "one"] == 4
    assert metrics["ainode_run_seconds_sum", "one"] == 4009.0
    assert metrics["ainode_peak_memory_bytes", "one", "host"] == 100 * 2**20
    assert (metrics["ainode_destination_down", "all"], metrics["ainode_destination_down", "findings"]) == (1, 0)
    assert (metrics["ainode_pipeline_stopped", "one"], metrics["ainode_pipeline_stopped", "two"]) == (0, 1)


def a_job(connection: sa.Connection, series: str, pipeline: str) -> Job:
    """One that waits for its first attempt."""
    new = NewJob(
        study_instance_uid=series, series_instance_uid=series, generation=1, pipeline=pipeline, rule="ct",
        destinations=("all",), priority=2,
    )  # fmt: skip
    create_job(connection, new)
    return get_job(connection, new.id)


def test_the_backlog_is_in_seconds_by_stage_and_pipeline(tmp_path: Path):
    """What an autoscaler divides by the seconds that a worker may have before it."""
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    facts = {"outcome": "findings", "scanner": "", "slices": 3, "findings": 1, "scores": [], "device": "cpu"}
    with begin_immediate(engine) as connection:
        now = ledger_clock(connection)
        for number, seconds in enumerate((100.0, 110.0, 900.0)):  # one hung: a median does not mind
            done = a_job(connection, f"1.{number}", "one")
            assert finish_attempt(connection, due_of(connection, done)[0], seconds, lambda _: None)
            record_statistics(connection, done.id, "one", {**facts, "run_seconds": seconds})
        for number in (4, 5):
            a_job(connection, f"1.{number}", "one")
        later = a_job(connection, "1.6", "one")
        update_job(connection, later.id, next_at=now + 600)
        due_again = a_job(connection, "1.7", "one")
        update_job(connection, due_again.id, next_at=now - 1)
        unmeasured = a_job(connection, "1.8", "two")
    gauge = scraped(engine, tmp_path)
    assert gauge["ainode_backlog_seconds", "one", "infer"] == 3 * 110.0
    assert gauge["ainode_backlog_seconds", "two", "infer"] == 110.0, "as long as the others, until it was measured"
    assert gauge["ainode_backlog_seconds", "one", "encode"] == 3 * ASSUMED_SECONDS["encode"]
    assert gauge["ainode_backlog_seconds", "one", "deliver"] == 0
    with begin_immediate(engine) as connection:
        stop_pipeline(connection, "one", "anna")
        cancel_job(connection, unmeasured.id, reason(ReasonCode.CANCELLED, operator="anna"))
    gauge = scraped(engine, tmp_path)
    assert (gauge["ainode_backlog_seconds", "one", "infer"], gauge["ainode_backlog_seconds", "two", "infer"]) == (0, 0)


def test_each_destination_of_a_result_is_a_delivery_of_the_backlog(tmp_path: Path):
    walk = Walk([("receive", 0), ("complete", 0), *[("work", 0)] * 2])
    with walk.engine.connect() as connection:
        due = connection.scalar(sa.select(sa.func.count()).select_from(delivery).where(delivery.c.ended_at.is_(None)))
    metrics = scraped(walk.engine, tmp_path)
    seconds = [value for key, value in metrics.items() if key[0] == "ainode_backlog_seconds" and key[2] == "deliver"]
    assert due
    assert sum(seconds) == due * ASSUMED_SECONDS["deliver"]


def test_the_grafana_dashboard_asks_only_for_metrics_that_exist(tmp_path: Path):
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    known = set(re.findall(r"^# TYPE (\w+)", exposition(CONFIG, engine, Spool(tmp_path)).decode(), re.MULTILINE))
    board = json.loads((ROOT / "docs" / "grafana.json").read_text())
    asked = {
        name.removesuffix("_bucket")
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ainode_\w+", target["expr"])
    }
    assert asked <= known
    assert len(asked) > 10


def test_a_line_of_the_json_log_names_study_series_and_job():
    text = "series 1.2.840.7 is done"  # a message is words: nothing is read from it
    record = logging.LogRecord("node.jobs", logging.INFO, "", 1, text, (), None)
    with about("1.2.840.99", series="1.2.840.1", job="0123456789abcdef"):
        line = json.loads(Json().format(record))
    assert (line["study"], line["series"], line["job"]) == ("1.2.840.99", "1.2.840.1", "0123456789abcdef")
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "node.jobs", text)
    assert line["time"].endswith("+00:00")
