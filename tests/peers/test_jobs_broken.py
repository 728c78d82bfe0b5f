"""A fault anywhere in a stage is an attempt: it backs off, ends, is seen, and holds up no other job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from job_node import RETRIES, JobNode, config_of
from timeline import timeline

from node.errors import EncodeError, PipelineError
from node.jobs.engine import Jobs
from node.jobs.stage import Done, Stage
from node.ledger import JobStage
from node.ledger.engine import begin_immediate
from node.ledger.job_outcome import record_outcome, record_results, schedule_results
from node.ledger.jobs import Job, NewJob, get_job
from node.ledger.operator_switches import stop_pipeline
from node.ledger.tables import job, result
from node.operate.account.report import account
from node.operate.account.rows import read
from node.operate.alerts import current_alerts
from node.reasons import reason_text

Handler = Callable[[str, str], Done | None]
LIMIT = 30.0
"""Seconds of one attempt, where a test sets none."""


def nothing(_job_id: str, _subject: str) -> None: ...


def found(job_id: str, _subject: str) -> Done:
    return Done(write=lambda connection: record_outcome(connection, job_id, "findings", None))


def to_pacs(job_id: str, _subject: str) -> Done:
    return Done(write=lambda connection: schedule_results(connection, job_id, {"pacs": None}))


def stages(infer: Handler = found, encode: Handler = nothing, deliver: Handler = nothing) -> list[Stage]:
    handlers = {JobStage.INFER: infer, JobStage.ENCODE: encode, JobStage.DELIVER: deliver}
    return [
        Stage(name=name, handler=handler, retries=RETRIES, seconds=LIMIT, slots=4, owners=("p",))
        for name, handler in handlers.items()
    ]


def enqueue(engine: sa.Engine, jobs: Jobs, number: int = 1) -> str:
    new = NewJob(
        study_instance_uid="1.2", series_instance_uid=f"1.2.{number}", generation=1, pipeline="p", rule="r",
        destinations=("pacs",), priority=2,
    )  # fmt: skip
    with begin_immediate(engine) as connection:
        assert jobs.enqueue(connection, new)
    return new.id


def job_of(engine: sa.Engine, job_id: str) -> Job:
    with engine.connect() as connection:
        return get_job(connection, job_id)


def ended(engine: sa.Engine, job_id: str, seconds: float = 60.0) -> Job:
    deadline = time.monotonic() + seconds
    while (job := job_of(engine, job_id)).state not in ("COMPLETED", "CANCELED"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def ended_both(engine: sa.Engine, *job_ids: str) -> tuple[str, ...]:
    for job_id in job_ids:
        ended(engine, job_id)
    return job_ids


def told(engine: sa.Engine, job_id: str) -> list[tuple[str, str]]:
    return [*timeline(engine, job_id)]


def row_of(job_id: str, uid: str) -> dict[str, object]:
    columns = ("sop_class_uid", "transfer_syntax_uid", "series_instance_uid", "description", "path", "digest")
    return {"sop_instance_uid": uid, "job_id": job_id, "size": 1, "created_at": 1.0, **dict.fromkeys(columns, "x")}


@postgres.BOTH
def test_an_outcome_that_another_job_blocks_ends_as_failed_and_no_other_job_waits(
    engine: sa.Engine, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    with begin_immediate(engine) as connection:
        connection.execute(sa.insert(result), [row_of("somebody else's", "9.9")])

    def encode(job_id: str, _: str) -> Done:
        uid = "9.9" if job_of(engine, job_id).series_instance_uid == "1.2.1" else f"9.8.{job_id}"
        return Done(write=lambda connection: record_results(connection, job_id, [row_of(job_id, uid)]))

    jobs.serve("test", stages(encode=encode))
    blocked, free = enqueue(engine, jobs), enqueue(engine, jobs, 2)
    assert ended(engine, free).state == "COMPLETED"
    last = ended(engine, blocked)
    assert (last.state, last.outcome) == ("CANCELED", "failed")
    what = [entry for entry, _ in told(engine, blocked)]
    # As often as [jobs] max_attempts says with the findings, and as often with the report of the failure.
    assert what.count("encode failed") == 2 * (RETRIES.max_attempts or 0)
    assert "job recovered" not in what
    assert "UNIQUE" not in " ".join(detail for _, detail in told(engine, blocked))
    assert "IntegrityError" in caplog.text


@postgres.BOTH
def test_a_fault_of_our_own_is_an_internal_error_to_readers_and_a_traceback_in_the_log(
    engine: sa.Engine, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    def infer(_job_id: str, _: str) -> Done:
        raise TypeError("unsupported operand")

    def encode(job_id: str, _: str) -> Done:
        raise EncodeError("no report") from TypeError("a bug in an encoder")

    jobs.serve("test", stages(infer=infer, encode=encode))
    job_id = enqueue(engine, jobs)
    last = ended(engine, job_id)
    words = " ".join(detail for _, detail in told(engine, job_id))
    assert f"internal error; the log of job {job_id} has the details" in words
    assert "operand" not in words
    assert "TypeError" not in words + (last.error or "") + reason_text(last.reason)
    assert "TypeError: unsupported operand" in caplog.text
    assert "TypeError: a bug in an encoder" in caplog.text


@postgres.BOTH
def test_words_that_a_database_does_not_take_end_an_attempt_all_the_same(engine: sa.Engine, jobs: Jobs) -> None:
    def infer(_job_id: str, _: str) -> Done:
        raise PipelineError("a name with \0 and \udcff in it")

    jobs.serve("test", stages(infer=infer))
    job_id = enqueue(engine, jobs)
    assert ended(engine, job_id).outcome == "failed"
    failures = [detail for what, detail in told(engine, job_id) if what == "infer failed"]
    assert len(failures) == RETRIES.max_attempts
    assert all(detail.endswith("a name with  and ? in it") for detail in failures), failures


@postgres.BOTH
def test_a_change_that_the_ledger_never_takes_is_not_taken_for_a_ledger_that_is_away(
    engine: sa.Engine, jobs: Jobs
) -> None:
    def infer(_job_id: str, _: str) -> Done:
        return Done(write=lambda connection: connection.exec_driver_sql("SELECT * FROM nowhere"))

    jobs.serve("test", stages(infer=infer))
    job_id = enqueue(engine, jobs)
    assert ended(engine, job_id).outcome == "failed"


@postgres.BOTH
def test_what_follows_a_commit_may_fail(engine: sa.Engine, jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    def infer(_job_id: str, _: str) -> Done:
        def then() -> None:
            raise OSError("cannot be removed")

        return Done(write=lambda _: None, then=then)

    jobs.serve("test", stages(infer=infer))
    job_id = enqueue(engine, jobs)
    assert ended(engine, job_id).state == "COMPLETED"
    assert "cannot be removed" in caplog.text
    assert f"job {job_id}: what follows infer failed" in caplog.text
    assert not jobs._client.list_workflows(status="ERROR")


@postgres.BOTH
def test_a_workflow_that_ended_in_an_error_is_a_failed_attempt_and_not_begun_for_ever(
    engine: sa.Engine, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the engine itself broke")

    jobs.serve("test", stages(infer=broken))
    monkeypatch.setattr(jobs._execution, "_fail", broken)
    job_id = enqueue(engine, jobs)
    assert ended(engine, job_id).outcome == "failed"
    assert ("infer failed", "0.00 s: the attempt ended without an outcome; the log says why") in told(engine, job_id)


@postgres.BOTH
def test_one_job_that_cannot_be_put_back_holds_up_no_other(
    engine: sa.Engine, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [enqueue(engine, jobs, number) for number in (1, 2)]
    with begin_immediate(engine) as connection:
        connection.execute(sa.update(job).values(updated_at=1.0))
    jobs.purge_workflows(datetime.now(UTC))
    bad = min(ids)
    put_back, seen = jobs._put_back, []

    def choosy(attempt: object) -> None:
        seen.append(attempt)
        if attempt.job_id == bad:  # type: ignore[attr-defined]
            raise RuntimeError("cannot be put back")
        put_back(attempt)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "_put_back", choosy)
    for workflow in jobs._client.list_workflows():
        jobs._client.cancel_workflow(workflow.workflow_id)
    jobs.reconcile(2.0)
    assert len(seen) == 2


def test_a_job_without_progress_is_a_difference_in_the_account_however_often_it_was_tried(tmp_path: Path) -> None:
    node = JobNode(config_of(tmp_path))
    job_id = node.enqueue()
    config = node.config

    def differences(minutes: float) -> list[str]:
        rows = read(node.engine, queue_minutes=minutes)
        return [text for text in account(rows, config.is_recipient).differences if "no progress" in text]

    assert differences(60.0) == []
    with begin_immediate(node.engine) as connection:  # tried again and again: the row is touched, nothing moves
        connection.execute(sa.update(job).values(progress_at=time.time() - 7200.0, updated_at=time.time(), error="e"))
    (said,) = differences(60.0)
    assert said.startswith(f"job {job_id} of study ")
    assert "no progress in stage infer since " in said
    assert said.endswith("; last error: e")
    assert differences(180.0) == []
    with node.engine.connect() as connection:
        assert "queue infer" in current_alerts(config, connection, node.spool, time.time())
    with begin_immediate(node.engine) as connection:
        stop_pipeline(connection, "scripted", "anna")
    assert differences(60.0) == []  # an operator holds it up
    node.engine.dispose()


def test_results_blocked_by_a_forged_object_end_as_failed_in_a_real_node(
    tmp_path: Path,
) -> None:
    node = JobNode(config_of(tmp_path, does="findings"))
    node.jobs.serve("test", node.stages())
    try:
        first = node.enqueue()
        assert node.wait(first).outcome == "findings"
        # The same objects under another job: what a forged series with foreseeable UIDs brought about.
        with begin_immediate(node.engine) as connection:
            connection.execute(sa.update(result).values(job_id="forged"))
        node.jobs.retry(first)
        last = node.wait(first)
    finally:
        node.jobs.stop()
    assert last.outcome == "failed"
    assert last.state == "COMPLETED"  # the report of the failure has UIDs of its own
    assert node.results(first)
    node.engine.dispose()


@pytest.mark.parametrize("stuck", [JobStage.INFER, JobStage.ENCODE, JobStage.DELIVER])
@postgres.BOTH
def test_a_handler_that_does_not_return_is_a_failed_attempt_and_its_slot_is_free(
    engine: sa.Engine, jobs: Jobs, stuck: JobStage
) -> None:
    released = threading.Event()
    first = True

    handlers: dict[JobStage, Handler] = {JobStage.INFER: found, JobStage.ENCODE: to_pacs, JobStage.DELIVER: nothing}
    usual = handlers[stuck]

    def hang(job_id: str, subject: str) -> Done | None:
        nonlocal first
        first, waits = False, first
        if waits:
            released.wait(300)
        return usual(job_id, subject)

    handlers[stuck] = hang
    jobs.serve(
        "test",
        [replace(stage, handler=handlers[stage.name], seconds=2.0, slots=1) for stage in stages()],
    )
    first_id, other = enqueue(engine, jobs), enqueue(engine, jobs, 2)
    try:
        assert {job_of(engine, job_id).state for job_id in ended_both(engine, first_id, other)} == {"COMPLETED"}
    finally:
        released.set()
    details = [detail for job_id in (first_id, other) for _, detail in told(engine, job_id)]
    assert len([text for text in details if f"the stage {stuck} took longer than 2 s and was abandoned" in text]) == 1


@postgres.BOTH
def test_what_an_abandoned_handler_returns_too_late_changes_nothing(engine: sa.Engine, jobs: Jobs) -> None:
    released, returned = threading.Event(), threading.Event()

    def late(job_id: str, _subject: str) -> Done:
        if not released.is_set():
            released.wait(300)
            returned.set()
            return Done(write=lambda connection: record_outcome(connection, job_id, "derived", None))
        return found(job_id, "")

    limits = {JobStage.INFER: (late, 1.0), JobStage.ENCODE: (nothing, LIMIT), JobStage.DELIVER: (nothing, LIMIT)}
    jobs.serve(
        "test", [replace(stage, handler=limits[stage.name][0], seconds=limits[stage.name][1]) for stage in stages()]
    )
    job_id = enqueue(engine, jobs)
    deadline = time.monotonic() + 60
    while "infer failed" not in [what for what, _ in told(engine, job_id)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    released.set()
    assert ended(engine, job_id).outcome == "findings"
    assert returned.wait(60)
