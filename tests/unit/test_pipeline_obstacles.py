"""What holds up the jobs of a pipeline is in the alerts, in ``status`` and in ``explain``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from job_node import JobNode, config_of

from node.errors import PipelineError
from node.ledger.engine import begin_immediate, now
from node.ledger.members import renew_beat
from node.ledger.operator_switches import start_pipeline, stop_pipeline
from node.ledger.pipeline_failures import record_failure
from node.ledger.tables import series
from node.membership import new_member
from node.operate.alerts import current_alerts
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.operate.status import status

WORKER = new_member("worker")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[JobNode]:
    """With a job of pipeline ``scripted`` and nothing that serves."""
    made = JobNode(config_of(tmp_path))
    study, uid = made.receive()
    made.enqueue_for(study, uid, destinations=(), pipeline="scripted")
    row = {"modality": "CT", "instances": 4, "first_at": 0.0, "last_at": 0.0, "state": "COMPLETE", "generation": 1}
    with begin_immediate(made.engine) as connection:
        connection.execute(sa.insert(series).values(study_instance_uid=study, series_instance_uid=uid, **row))
    yield made
    made.engine.dispose()


def offer(node: JobNode, *pipelines: str) -> None:
    """A worker is alive that has these pipelines."""
    with begin_immediate(node.engine) as connection:
        renew_beat(connection, replace(WORKER, pipelines=pipelines), now())


def alerts(node: JobNode) -> dict[str, str]:
    with node.engine.connect() as connection:
        return current_alerts(node.config, connection, node.spool, 0.0)


def waits(node: JobNode) -> list[str]:
    with node.engine.connect() as connection:
        study = connection.scalar(sa.select(series.c.study_instance_uid))
    return [line.strip() for line in describe(explain(node.engine, str(study))).splitlines() if "waits:" in line]


def test_a_job_of_a_pipeline_that_no_live_worker_has_waits_with_an_alert(node: JobNode) -> None:
    offer(node, "other")
    assert "1 jobs wait for pipeline scripted" in alerts(node)["no worker for scripted"]
    assert waits(node) == ["waits: no live worker has the pipeline"]
    assert [pipeline["name"] for pipeline in status(node.engine, node.folder)["without_worker"]] == ["scripted"]
    offer(node, "other", "scripted")
    assert "no worker for scripted" not in alerts(node)
    assert waits(node) == []
    assert status(node.engine, node.folder)["without_worker"] == []


def test_a_pipeline_that_keeps_failing_is_an_alert_until_an_operator_starts_it(node: JobNode) -> None:
    offer(node, "scripted")
    with begin_immediate(node.engine) as connection:
        for job_id in "123":
            record_failure(connection, "scripted", job_id, 0.0, PipelineError("it crashed"))
    assert "scripted has failed on 3 jobs in a row" in alerts(node)["failing scripted"]
    assert waits(node)[0].startswith("waits: the pipeline has failed on 3 jobs in a row; next attempt after 20")
    assert [pipeline["failures"] for pipeline in status(node.engine, node.folder)["failing"]] == [3]
    with begin_immediate(node.engine) as connection:
        stop_pipeline(connection, "scripted", "operator")
    assert waits(node) == ["waits: an operator has stopped the pipeline"]
    with begin_immediate(node.engine) as connection:
        start_pipeline(connection, "scripted")
    assert "failing scripted" not in alerts(node)
    assert waits(node) == []
