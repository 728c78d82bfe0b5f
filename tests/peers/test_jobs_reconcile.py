"""The search for jobs that are in no queue: a few queries however many are open, by one process of the fleet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import postgres
import sqlalchemy as sa

from node.config import FORWARD
from node.jobs.engine import Jobs
from node.ledger import JobStage
from node.ledger.engine import begin_immediate, open_ledger
from node.ledger.jobs import NewJob
from node.ledger.leadership import Leadership

DESTINATIONS = ("pacs", "pacs2")


def enqueue(engine: sa.Engine, jobs: Jobs, numbers: range, pipeline: str = FORWARD) -> None:
    with begin_immediate(engine) as connection:
        for number in numbers:
            new = NewJob(
                study_instance_uid="1.2",
                series_instance_uid=f"1.2.{number}",
                generation=1,
                pipeline=pipeline,
                rule="r",
                destinations=DESTINATIONS,
                priority=2,
            )
            assert jobs.enqueue(connection, new)


@contextmanager
def statements(engine: sa.Engine) -> Iterator[list[str]]:
    """What is executed meanwhile."""
    executed: list[str] = []

    def keep(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        executed.append(statement)

    sa.event.listen(engine, "before_cursor_execute", keep)
    yield executed
    sa.event.remove(engine, "before_cursor_execute", keep)


@postgres.BOTH
def test_open_deliveries_that_are_queued_cost_two_queries_however_many_there_are(engine: sa.Engine) -> None:
    jobs = Jobs(engine)
    enqueue(engine, jobs, range(40))
    enqueue(engine, jobs, range(40, 50), "p")
    with statements(engine) as executed:
        jobs.reconcile(time.time() + 60.0)
    assert len([statement for statement in executed if "workflow_status" in statement]) == 2
    assert len(executed) <= 3


@postgres.BOTH
def test_exactly_the_deliveries_that_are_in_no_queue_are_put_back(engine: sa.Engine) -> None:
    jobs = Jobs(engine)
    enqueue(engine, jobs, range(3))
    lost = [
        workflow.workflow_id for workflow in jobs._client.list_workflows() if workflow.workflow_id.endswith("/pacs2/0")
    ][:2]
    for workflow_id in lost:
        jobs._client.cancel_workflow(workflow_id)
    jobs.reconcile(time.time() + 60.0, [JobStage.INFER])
    assert renewed(jobs) == set()
    jobs.reconcile(time.time() + 60.0)
    assert renewed(jobs) == {workflow_id.partition("/")[0] for workflow_id in lost}
    with statements(engine) as executed:
        jobs.reconcile(time.time() + 60.0)
    assert len(executed) <= 3


def renewed(jobs: Jobs) -> set[str]:
    """The jobs that are in their second run."""
    return {
        workflow.workflow_id.partition("/")[0]
        for workflow in jobs._client.list_workflows()
        if "/1/deliver/" in workflow.workflow_id
    }


def test_one_process_leads_until_it_lets_go_or_its_connection_ends(postgres_server: str) -> None:
    url = postgres.new_database(postgres_server, "leaders")
    engines = [open_ledger(url) for _ in range(2)]
    first, second = (Leadership(engine, "jobs") for engine in engines)
    assert first.is_ours()
    assert first.is_ours()
    assert not second.is_ours()
    another = Leadership(engines[1], "another work")
    assert another.is_ours()
    another.release()
    first.release()
    assert second.is_ours()
    assert not first.is_ours()
    with engines[0].connect() as connection:  # as when its machine loses power
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
        )
    deadline = time.monotonic() + 30.0
    while not first.is_ours():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not second.is_ours()
    first.release()
    for engine in engines:
        engine.dispose()
