"""Durable execution on a real DBOS, SQLite and PostgreSQL, with handlers that do next to nothing."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import postgres
import psutil
import pytest
import sqlalchemy as sa
from dbos import DBOS
from dbos._dbos import _get_or_create_dbos_registry
from job_node import PACE, RETRIES
from new_jobs import new_job
from timeline import timeline

from node.errors import DeliveryError, InputError, NodeError, not_analysed
from node.jobs.engine import Jobs
from node.jobs.stage import Done, Stage
from node.ledger import JobStage
from node.ledger.engine import begin_immediate, open_ledger
from node.ledger.job_outcome import record_outcome, schedule_results
from node.ledger.jobs import Job, get_job
from node.ledger.members import Member, beats, renew_beat
from node.ledger.states import ShadowCause
from node.ledger.tables import job
from node.membership import Membership, new_member
from node.operate.fleet import drain, end_drain, fleet
from node.reasons import reason_text

Handler = Callable[[str, str], Done | None]


def nothing(_job_id: str, _subject: str) -> None: ...


def stages(infer: Handler = nothing, encode: Handler = nothing, deliver: Handler = nothing) -> list[Stage]:
    handlers = {JobStage.INFER: infer, JobStage.ENCODE: encode, JobStage.DELIVER: deliver}
    return [
        Stage(name=name, handler=handler, retries=RETRIES, seconds=60.0, owners=("p",))
        for name, handler in handlers.items()
    ]


def enqueue(engine: sa.Engine, jobs: Jobs, number: int = 1, priority: int = 2) -> str:
    new = new_job(number, priority)
    with begin_immediate(engine) as connection:
        assert jobs.enqueue(connection, new)
    return new.id


def read(engine: sa.Engine, job_id: str) -> Job:
    with engine.connect() as connection:
        return get_job(connection, job_id)


def told(engine: sa.Engine, job_id: str) -> list[str]:
    return [line.what for line in timeline(engine, job_id)]


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def completed(engine: sa.Engine, job_id: str) -> Callable[[], bool]:
    return lambda: read(engine, job_id).state == "COMPLETED"


def dbos(engine: sa.Engine, table: str, *columns: str) -> sa.TableClause:
    """One of DBOS's own tables."""
    schema = "dbos" if engine.dialect.name == "postgresql" else None
    return sa.table(table, *map(sa.column, columns), schema=schema)


def workflows(engine: sa.Engine) -> list[tuple[str, str]]:
    """Workflow id without the job's, and status."""
    table = dbos(engine, "workflow_status", "workflow_uuid", "status")
    with engine.connect() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.workflow_uuid)).all()
    return [(str(row.workflow_uuid).partition("/")[2], str(row.status)) for row in rows]


@postgres.BOTH
def test_stages_follow_one_another_and_commit_what_they_leave(engine: sa.Engine, jobs: Jobs) -> None:
    calls: list[tuple[str, str]] = []
    after: list[str] = []

    def infer(job_id: str, _: str) -> Done:
        return Done(write=lambda c: record_outcome(c, job_id, "findings", None), then=lambda: after.append(job_id))

    def encode(job_id: str, _: str) -> Done:
        return Done(write=lambda c: schedule_results(c, job_id, {"pacs": None, "archive": None}))

    def deliver(job_id: str, destination: str) -> None:
        calls.append((job_id, destination))

    job_id = enqueue(engine, jobs)
    jobs.serve("worker", stages(infer, encode, deliver))
    until(completed(engine, job_id))
    assert sorted(calls) == [(job_id, "archive"), (job_id, "pacs")]
    assert after == [job_id]
    assert read(engine, job_id).outcome == "findings"
    assert {name for name, _ in workflows(engine)} == {
        "0/infer/0",
        "0/encode/0",
        "0/deliver/pacs/0",
        "0/deliver/archive/0",
    }


@postgres.BOTH
def test_row_and_workflow_are_committed_together_or_not_at_all(engine: sa.Engine, jobs: Jobs) -> None:
    with engine.connect() as connection, connection.begin() as transaction:
        assert jobs.enqueue(connection, new_job())
        assert not jobs.enqueue(connection, new_job())
        transaction.rollback()
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(job)) == 0
    assert workflows(engine) == []


def test_failed_attempt_is_retried_later_by_a_new_workflow(engine: sa.Engine, jobs: Jobs) -> None:
    tries: list[float] = []

    def flaky(_job_id: str, _: str) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise ValueError("first try")

    job_id = enqueue(engine, jobs)
    jobs.serve("worker", stages(flaky))
    until(completed(engine, job_id))
    assert tries[1] - tries[0] >= RETRIES.first_seconds
    assert told(engine, job_id)[1:5] == ["infer started", "infer failed", "infer started", "infer finished"]
    assert [name for name, _ in workflows(engine)] == ["0/encode/0", "0/infer/0", "0/infer/1"]


def test_permanent_error_is_not_tried_again(engine: sa.Engine, jobs: Jobs) -> None:
    tries: list[str] = []

    def refuses(job_id: str, _: str) -> None:
        tries.append(job_id)
        raise InputError("no pixels")

    job_id = enqueue(engine, jobs)
    jobs.serve("worker", stages(refuses))
    until(completed(engine, job_id))
    assert tries == [job_id]
    assert (read(engine, job_id).outcome, reason_text(read(engine, job_id).reason)) == (
        "failed",
        not_analysed(InputError.code, job_id),
    )


@postgres.BOTH
def test_waiting_attempt_survives_a_restart_and_keeps_its_time(engine: sa.Engine, jobs: Jobs) -> None:
    tries: list[float] = []

    def deliver(_job_id: str, _: str) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise DeliveryError("no answer")

    def encode(job_id: str, _: str) -> Done:
        return Done(write=lambda c: schedule_results(c, job_id, {"pacs": None}))

    job_id = enqueue(engine, jobs)
    jobs.serve("worker", stages(encode=encode, deliver=deliver))
    until(lambda: "deliver failed" in told(engine, job_id))
    jobs.stop()
    waiting = {("0/deliver/pacs/1", "DELAYED"), ("0/deliver/pacs/1", "ENQUEUED")}
    assert waiting & set(workflows(engine)), "it waits, or its time has come meanwhile"
    jobs.serve("worker", stages(encode=encode, deliver=deliver))
    until(completed(engine, job_id))
    assert len(tries) == 2


def test_delivery_that_goes_on_failing_alike_is_logged_once(
    engine: sa.Engine, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[str] = []

    def deliver(_job_id: str, destination: str) -> None:
        tries.append(destination)
        if len(tries) < 3:
            raise DeliveryError("no answer")

    def encode(job_id: str, _: str) -> Done:
        return Done(write=lambda c: schedule_results(c, job_id, {"pacs": None}))

    job_id = enqueue(engine, jobs)
    jobs.serve("worker", stages(encode=encode, deliver=deliver))
    until(completed(engine, job_id))
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == [f"job {job_id}: deliver failed: no answer"]


def test_urgent_jobs_go_first(engine: sa.Engine, jobs: Jobs) -> None:
    order: list[str] = []
    low, medium, high = (enqueue(engine, jobs, number, priority) for number, priority in ((1, 3), (2, 2), (3, 1)))
    jobs.serve("worker", stages(lambda job_id, _: order.append(job_id)))
    until(lambda: len(order) == 3)
    assert order == [high, medium, low]


@postgres.BOTH
def test_a_changed_priority_holds_for_what_waits_and_for_what_follows(engine: sa.Engine, jobs: Jobs) -> None:
    order: list[str] = []
    first, second, third = (enqueue(engine, jobs, number) for number in (1, 2, 3))
    jobs.change_priority(third, "high", "anna")
    jobs.change_priority(first, "low")
    jobs.serve("worker", stages(lambda job_id, _: order.append(job_id)))
    until(lambda: len(order) == 3)
    assert order == [third, second, first]
    assert [line.detail for line in timeline(engine) if line.what == "priority changed"] == [
        "to high by anna",
        "to low",
    ]
    with engine.connect() as connection:
        table = dbos(engine, "workflow_status", "workflow_uuid", "priority")
        rows = connection.execute(sa.select(table)).all()
    assert {row.priority for row in rows if row.workflow_uuid.startswith(third)} == {1}, "encode, too"


def test_the_job_whose_result_another_one_needs_is_raised_with_it(engine: sa.Engine, jobs: Jobs) -> None:
    needed = replace(new_job(priority=3), destinations=())
    needs = replace(new_job(priority=3), pipeline="q", after="p")
    with begin_immediate(engine) as connection:
        assert jobs.enqueue(connection, needed)
        assert jobs.enqueue(connection, needs)
    jobs.change_priority(needs.id, "high")
    assert (read(engine, needed.id).priority, read(engine, needs.id).priority) == (1, 1)
    jobs.change_priority(needs.id, "low")
    assert (read(engine, needed.id).priority, read(engine, needs.id).priority) == (1, 3), "others may need it"


def test_what_is_tried_keeps_its_priority_when_a_job_that_needs_its_result_is_raised(
    engine: sa.Engine, jobs: Jobs
) -> None:
    """As after a promotion: with another priority it would leave the turns in shadow."""
    tried = replace(new_job(), destinations=(), shadow=ShadowCause.TRIAL)
    needs = replace(new_job(priority=3), pipeline="q", after="p")
    with begin_immediate(engine) as connection:
        assert jobs.enqueue(connection, tried)
        assert jobs.enqueue(connection, needs)
    jobs.change_priority(needs.id, "high")
    assert (read(engine, tried.id).priority, read(engine, needs.id).priority) == (4, 1)


def test_the_priority_of_what_has_ended_or_is_tried_in_shadow_stays(engine: sa.Engine, jobs: Jobs) -> None:
    tried = replace(new_job(2), shadow=ShadowCause.TRIAL)
    with begin_immediate(engine) as connection:
        assert jobs.enqueue(connection, tried)
    with pytest.raises(NodeError, match="runs in shadow, after all others"):
        jobs.change_priority(tried.id, "high")
    ended = enqueue(engine, jobs)
    with pytest.raises(NodeError, match="has medium priority already"):
        jobs.change_priority(ended, "medium")
    jobs.cancel(ended)
    with pytest.raises(NodeError, match="is CANCELED; only the priority of an open job can be changed"):
        jobs.change_priority(ended, "high")


def test_process_executes_only_the_stages_it_serves(engine: sa.Engine, jobs: Jobs) -> None:
    job_id = enqueue(engine, jobs)
    jobs.serve("worker", stages()[:1])
    until(lambda: read(engine, job_id).stage == JobStage.ENCODE)
    time.sleep(0.5)
    assert read(engine, job_id).stage == JobStage.ENCODE
    jobs.stop()
    jobs.serve("other", stages()[1:])
    until(completed(engine, job_id))


def test_cancelled_job_is_not_begun(engine: sa.Engine, jobs: Jobs) -> None:
    calls: list[str] = []
    cancelled, other = enqueue(engine, jobs, 1), enqueue(engine, jobs, 2)
    jobs.cancel(cancelled, "anna")
    jobs.serve("worker", stages(lambda job_id, _: calls.append(job_id)))
    until(completed(engine, other))
    assert calls == [other]
    assert reason_text(read(engine, cancelled).reason) == "cancelled by anna"
    jobs.retry(cancelled)
    until(completed(engine, cancelled))


def test_an_idle_process_seldom_asks_about_queues_that_only_others_fill(jobs: Jobs) -> None:
    jobs.serve("worker", stages())
    intervals = {queue.name: queue._polling_interval_sec for queue in _get_or_create_dbos_registry().internal_queues()}
    seldom = {name for name, seconds in intervals.items() if seconds == PACE.old_poll_seconds}
    assert seldom == {"_dbos_internal_queue", "gpu", "cpu", "deliver"}
    assert intervals["gpu/p"] < PACE.poll_seconds


@postgres.BOTH
def test_job_that_is_in_no_queue_is_put_back(engine: sa.Engine, jobs: Jobs) -> None:
    job_id = enqueue(engine, jobs)
    with begin_immediate(engine) as connection:
        connection.execute(sa.delete(dbos(engine, "workflow_status")))
    jobs.serve("worker", stages())
    until(completed(engine, job_id))
    assert "job recovered" in told(engine, job_id)


def test_workflow_that_killed_its_process_too_often_becomes_a_failed_attempt(engine: sa.Engine, jobs: Jobs) -> None:
    job_id = enqueue(engine, jobs)
    with begin_immediate(engine) as connection:
        table = dbos(engine, "workflow_status", "recovery_attempts")
        connection.execute(sa.update(table).values(recovery_attempts=6))
    jobs.serve("worker", stages())
    until(completed(engine, job_id))
    [detail] = [line.detail for line in timeline(engine) if line.what == "infer failed"]
    assert "the process died 6 times in this attempt" in detail


@postgres.BOTH
def test_work_of_an_executor_without_a_beat_is_recovered_by_the_private_call(engine: sa.Engine, jobs: Jobs) -> None:
    """Contract with the pinned DBOS: ``_recover_pending_workflows`` takes executor ids and only enqueues again."""
    job_id = enqueue(engine, jobs)
    table = dbos(engine, "workflow_status", "status", "executor_id", "application_version")
    with begin_immediate(engine) as connection:
        connection.execute(sa.update(table).values(status="PENDING", executor_id="gone", application_version="1"))
    jobs.serve("sender", stages()[2:])
    until(lambda: workflows(engine) == [("0/infer/0", "ENQUEUED")])
    assert told(engine, job_id) == ["job scheduled"]
    assert DBOS._recover_pending_workflows(["gone", "never"]) == []


def test_stop_interrupts_and_leaves_the_attempt_to_the_next_process(engine: sa.Engine, jobs: Jobs) -> None:
    begun, interrupted = threading.Event(), threading.Event()

    def infer(_job_id: str, _: str) -> None:
        begun.set()
        assert interrupted.wait(30)
        raise RuntimeError("interrupted")

    job_id = enqueue(engine, jobs)
    long = Stage(
        name=JobStage.INFER, handler=infer, retries=RETRIES, seconds=60.0, interrupt=interrupted.set, owners=("p",)
    )
    jobs.serve("worker", [long, *stages()[1:]])
    assert begun.wait(30)
    jobs.stop()
    with engine.connect() as connection:
        assert beats(connection) == []
    assert told(engine, job_id) == ["job scheduled", "infer started"]
    jobs.serve("worker", stages())
    until(completed(engine, job_id))
    assert "infer failed" not in told(engine, job_id)


def test_arguments_are_stored_as_json(engine: sa.Engine, jobs: Jobs) -> None:
    job_id = enqueue(engine, jobs)
    table = dbos(engine, "workflow_input", "inputs")
    with engine.connect() as connection:
        [inputs] = connection.scalars(sa.select(table.c.inputs))
    assert json.loads(inputs)["positionalArgs"] == [job_id, 0, "infer", "", 0, "p"]


def test_workflows_that_ended_long_ago_are_forgotten(engine: sa.Engine, jobs: Jobs) -> None:
    job_id, waiting = enqueue(engine, jobs), enqueue(engine, jobs, 2)
    jobs.cancel(waiting)
    jobs.serve("worker", stages()[:1])
    until(lambda: ("0/encode/0", "ENQUEUED") in workflows(engine))
    until(lambda: [status for _, status in workflows(engine)].count("SUCCESS") == 2)
    assert jobs.purge_workflows(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert jobs.purge_workflows(datetime.now(UTC) + timedelta(hours=1)) == 2
    assert workflows(engine) == [("0/encode/0", "ENQUEUED")]
    assert read(engine, job_id).state == "IN PROGRESS"


@postgres.BOTH
def test_executor_silent_on_another_host_is_dead_only_after_its_time(engine: sa.Engine) -> None:
    ours = Membership(engine, new_member("worker"), dead_seconds=0.6)
    ours.beat()
    with begin_immediate(engine) as connection:
        renew_beat(connection, Member(id="theirs", role="worker", host="elsewhere", pid=1), time.time() - 3600.0)
    assert ours.beat() == {ours.id, "theirs"}  # the database may have been away: it gets the time to beat again
    until(lambda: ours.beat() == {ours.id} or time.sleep(0.1))


def test_executor_whose_process_is_gone_is_dead_at_once(engine: sa.Engine) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    ours, theirs = new_member("worker"), replace(new_member("worker"), pid=process.pid)
    Membership(engine, theirs).beat()
    assert Membership(engine, ours).beat() == {ours.id}


def test_dbos_is_silent_and_opens_no_port(
    engine: sa.Engine, jobs: Jobs, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own = psutil.Process()
    before = {c.laddr for c in own.net_connections("inet")}
    job_id = enqueue(engine, jobs)
    jobs.serve("worker", stages())
    until(completed(engine, job_id))
    assert {c.laddr for c in own.net_connections("inet")} == before
    jobs.stop()
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("dbos")]


def test_work_finished_while_the_ledger_is_away_is_kept(postgres_server: str, tmp_path: Path) -> None:
    """The database refuses new connections and ends the old ones while a handler runs."""
    name = tmp_path.name.lower()
    url = postgres.new_database(postgres_server, name)
    engine = open_ledger(url)
    jobs = Jobs(engine, PACE)
    calls: list[str] = []
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")

    def infer(job_id: str, _: str) -> None:
        calls.append(job_id)
        with admin.connect() as connection:
            connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
            )

        def open_again() -> None:
            with admin.connect() as connection:
                connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))

        threading.Timer(3.0, open_again).start()

    job_id = enqueue(engine, jobs)
    jobs.serve("worker", stages(infer))
    try:
        until(lambda: calls)
        time.sleep(4.0)
        until(completed(engine, job_id))
    finally:
        jobs.stop()
        admin.dispose()
        engine.dispose()
    assert calls == [job_id]


@postgres.BOTH
def test_a_drained_machine_finishes_its_attempt_and_takes_no_other_until_that_is_undone(
    engine: sa.Engine, jobs: Jobs
) -> None:
    begun, finish, calls = threading.Event(), threading.Event(), list[str]()

    def infer(job_id: str, _: str) -> None:
        calls.append(job_id)
        begun.set()
        finish.wait(60.0)

    machine = Membership(engine, new_member("worker", "f00d"), PACE.beat_seconds, PACE.dead_after_seconds)
    machine.begin()
    jobs.serve("worker", stages(infer), machine)
    first = enqueue(engine, jobs)
    assert begun.wait(60.0)
    assert [member["busy"] for member in fleet(engine)] == [1]
    drain(engine, "f00d")
    until(lambda: machine.is_drained)
    second = enqueue(engine, jobs, 2)
    time.sleep(1.0)  # some looks into the queues
    finish.set()
    until(lambda: read(engine, first).stage == JobStage.ENCODE)
    time.sleep(1.0)
    assert calls == [first]
    assert [(member["state"], member["busy"]) for member in fleet(engine)] == [("draining", 0)]
    assert read(engine, second).stage == JobStage.INFER
    end_drain(engine, "f00d")
    until(completed(engine, first))
    until(completed(engine, second))
    assert calls == [first, second]
