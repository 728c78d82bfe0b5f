"""The state machine of jobs, without anything that executes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa
from timeline import timeline

from node.errors import AbsentFileError, NodeError, NotFoundError, UnreachableError, not_analysed
from node.ledger import JobStage
from node.ledger.copying import infer_again
from node.ledger.deliveries import begin_delivery
from node.ledger.destination_circuits import FAILURES, close, record_failure
from node.ledger.job_creation import create_job
from node.ledger.job_outcome import record_outcome, record_results, schedule_results
from node.ledger.jobs import Attempt, Job, NewJob, Retries, due_of, get_job, list_jobs, source_paths
from node.ledger.pending_attempts import due_attempts
from node.ledger.pending_deliveries import DeliveryStatus, deliveries_of
from node.ledger.retry_transitions import retry_job
from node.ledger.tables import delivery, delivery_instance, instance, result
from node.ledger.transitions import (
    Write,
    begin_attempt,
    cancel_job,
    complete_delivered,
    fail_attempt,
    finish_attempt,
    renew_attempts,
)
from node.reasons import ReasonCode, reason, reason_text

CANCELLED = reason(ReasonCode.CANCELLED, operator="anna")
NEW = NewJob(
    study_instance_uid="1.2",
    series_instance_uid="1.2.3",
    generation=1,
    pipeline="nodule",
    rule="chest",
    destinations=("a", "b"),
    priority=1,
)
RETRIES = Retries(max_attempts=2, first_seconds=5.0, max_seconds=600.0)
FOR_EVER = Retries(max_attempts=None, first_seconds=5.0, max_seconds=600.0)


@pytest.fixture
def ledger(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.begin() as connection:
        yield connection


def nothing(_connection: sa.Connection) -> None: ...


def found(connection: sa.Connection) -> None:
    record_outcome(connection, NEW.id, "findings", None)


def owing(*destinations: str) -> Write:
    return lambda connection: schedule_results(connection, NEW.id, dict.fromkeys(destinations))


def job(ledger: sa.Connection) -> Job:
    return get_job(ledger, NEW.id)


def walk(ledger: sa.Connection, attempt: Attempt, write: Write = nothing) -> list[Attempt]:
    assert begin_attempt(ledger, attempt) is not None
    due = finish_attempt(ledger, attempt, 1.5, write)
    assert due is not None
    return due


def to_delivery(ledger: sa.Connection, *destinations: str) -> list[Attempt]:
    [infer] = create_job(ledger, NEW)
    [encode] = walk(ledger, infer, found)
    return walk(ledger, encode, owing(*destinations))


def settle(ledger: sa.Connection, destination: str, state: str) -> None:
    where = delivery.c.destination == destination
    ledger.execute(sa.update(delivery).where(where).values(state=state))


def test_job_walks_from_inference_to_delivery(ledger: sa.Connection) -> None:
    [infer] = create_job(ledger, NEW)
    assert (infer.key, infer.number, infer.priority) == (f"{NEW.id}/0/infer", 0, 1)
    assert job(ledger).state == "SCHEDULED"
    [encode] = walk(ledger, infer, found)
    assert (encode.stage, job(ledger).state, job(ledger).outcome) == (JobStage.ENCODE, "IN PROGRESS", "findings")
    to_a, to_b = walk(ledger, encode, owing("a", "b"))
    assert (to_a.key, to_b.subject) == (f"{NEW.id}/0/deliver/a", "b")
    settle(ledger, "a", "STORED")
    assert walk(ledger, to_a) == []
    assert job(ledger).state == "IN PROGRESS"
    settle(ledger, "b", "STORED")
    walk(ledger, to_b)
    assert job(ledger).state == "COMPLETED"
    told = timeline(ledger)
    assert told[:3] == [
        ("job scheduled", "pipeline nodule by rule chest"),
        ("infer started", ""),
        ("outcome", "findings"),
    ]
    assert ("infer finished", "1.50 s") in told
    assert ("deliver finished", "1.50 s, a") in told
    assert told[-1] == ("job completed", "")


def test_same_decision_twice_is_one_job(ledger: sa.Connection) -> None:
    assert create_job(ledger, NEW)
    assert create_job(ledger, replace(NEW, rule="other")) is None
    assert len(list_jobs(ledger)) == 1
    assert create_job(ledger, replace(NEW, generation=2))


def test_not_applicable_by_the_router_begins_with_encode(ledger: sa.Connection) -> None:
    [first] = create_job(
        ledger, replace(NEW, outcome="not applicable", reason=reason(ReasonCode.STATED, text="no chest"))
    )
    assert first.stage == JobStage.ENCODE
    assert (job(ledger).outcome, reason_text(job(ledger).reason)) == ("not applicable", "no chest")


def test_job_without_destination_ends_with_its_results_kept(ledger: sa.Connection) -> None:
    assert to_delivery(ledger) == []
    assert job(ledger).state == "COMPLETED"


def test_failed_attempt_is_followed_by_a_new_one_after_a_doubled_delay(ledger: sa.Connection) -> None:
    [first] = create_job(ledger, NEW)
    begin_attempt(ledger, first)
    [second] = fail_attempt(ledger, first, "broke", 2.0, FOR_EVER, permanent=False)
    assert (second.number, second.delay_seconds) == (1, 5.0)
    assert job(ledger).error == "broke"
    assert job(ledger).next_at == pytest.approx(time.time() + 5.0, abs=1.0)
    assert fail_attempt(ledger, second, "broke", 2.0, FOR_EVER, permanent=False)[0].delay_seconds == 10.0
    assert FOR_EVER.delay(500) == 600.0


@pytest.mark.parametrize("permanent", [True, False])
def test_inference_that_finally_fails_becomes_the_outcome_failed(ledger: sa.Connection, *, permanent: bool) -> None:
    [attempt] = create_job(ledger, NEW)
    if not permanent:
        [attempt] = fail_attempt(ledger, attempt, "broke", 0.1, RETRIES, permanent=False)
    [encode] = fail_attempt(ledger, attempt, "broke again", 0.1, RETRIES, permanent=permanent)
    assert encode.stage == JobStage.ENCODE
    assert encode.run == 1
    assert (job(ledger).outcome, reason_text(job(ledger).reason), job(ledger).state) == (
        "failed",
        not_analysed(NodeError.code, NEW.id),
        "SCHEDULED",
    )


def test_attempts_go_on_while_the_files_of_a_job_are_on_a_machine_that_is_down(ledger: sa.Connection) -> None:
    [attempt] = create_job(ledger, NEW)
    down = AbsentFileError("a is down")
    for number in range(1, 10):
        begin_attempt(ledger, attempt)
        [attempt] = fail_attempt(ledger, attempt, str(down), 0.1, RETRIES, permanent=False, failure=down)
        assert (attempt.stage, attempt.number) == (JobStage.INFER, number)
    assert (job(ledger).outcome, job(ledger).error) == (None, "a is down")


def test_a_job_whose_handover_is_lost_is_inferred_again(ledger: sa.Connection) -> None:
    [infer] = create_job(ledger, NEW)
    [encode] = walk(ledger, infer, found)
    infer_again(ledger, "another job")
    assert job(ledger).stage == JobStage.ENCODE
    infer_again(ledger, NEW.id)
    assert (job(ledger).stage, job(ledger).run) == (JobStage.INFER, encode.run + 1)
    assert fail_attempt(ledger, encode, "absent", 0.1, RETRIES, permanent=False) == []


def test_encoding_that_finally_fails_is_reported_and_then_cancels(ledger: sa.Connection) -> None:
    [infer] = create_job(ledger, NEW)
    [encode] = walk(ledger, infer, found)
    [again] = fail_attempt(ledger, encode, "no grid", 0.1, RETRIES, permanent=True)
    assert (again.stage, job(ledger).outcome) == (JobStage.ENCODE, "failed")
    assert fail_attempt(ledger, again, "no disk", 0.1, RETRIES, permanent=True) == []
    assert (job(ledger).state, reason_text(job(ledger).reason)) == (
        "CANCELED",
        f"No report could be made. {not_analysed(NodeError.code, NEW.id)}",
    )


def test_report_of_an_attempt_that_is_not_due_changes_nothing(ledger: sa.Connection) -> None:
    [infer] = create_job(ledger, NEW)
    [encode] = walk(ledger, infer, found)
    before = job(ledger)
    for stale in (infer, replace(encode, run=7), replace(encode, number=1)):
        assert begin_attempt(ledger, stale) is None
        assert finish_attempt(ledger, stale, 1.0, owing("a")) is None
        assert fail_attempt(ledger, stale, "late", 1.0, RETRIES, permanent=True) == []
        assert renew_attempts(ledger, stale) == []
    assert job(ledger) == before
    assert ledger.scalar(sa.select(sa.func.count()).select_from(delivery)) == 0


def unreachable(seconds: float, *, until_reached: bool = False) -> UnreachableError:
    error = UnreachableError("no answer")
    error.retry_seconds, error.until_reached = seconds, until_reached
    return error


def fail_delivery(ledger: sa.Connection, attempt: Attempt, failure: UnreachableError) -> Attempt:
    begin_attempt(ledger, attempt)
    assert begin_delivery(ledger, NEW.id, attempt.subject) is not None
    [due] = fail_attempt(ledger, attempt, str(failure), 0.1, FOR_EVER, permanent=False, failure=failure)
    return due


def status(ledger: sa.Connection) -> DeliveryStatus:
    [row] = deliveries_of(ledger, NEW.id)
    return row


def test_delivery_is_tried_for_ever_after_the_delay_that_the_sender_sets(ledger: sa.Connection) -> None:
    [attempt] = to_delivery(ledger, "a")
    for number in range(1, 20):
        attempt = fail_delivery(ledger, attempt, unreachable(77.0))
        assert (attempt.number, attempt.delay_seconds) == (number, 77.0)
        assert (status(ledger).error, status(ledger).next_at) == ("no answer", pytest.approx(time.time() + 77, abs=9))


def test_delivery_waits_while_its_destination_is_down(ledger: sa.Connection) -> None:
    [attempt] = to_delivery(ledger, "a")
    for _ in range(FAILURES):
        record_failure(ledger, "a", "refused", 1.0, 2.0)
    assert fail_delivery(ledger, attempt, unreachable(900.0, until_reached=True)).delay_seconds == 900.0
    close(ledger, "a")
    assert (status(ledger).next_at or 0.0) <= time.time()


def test_delivery_is_due_when_its_destination_was_reached_before_the_failure_is_recorded(ledger: sa.Connection) -> None:
    [attempt] = to_delivery(ledger, "a")
    for _ in range(FAILURES):
        record_failure(ledger, "a", "refused", 1.0, 2.0)
    close(ledger, "a")
    assert fail_delivery(ledger, attempt, unreachable(900.0, until_reached=True)).delay_seconds == 0.0
    assert (status(ledger).next_at or 0.0) <= time.time()


def test_delivery_that_goes_on_failing_alike_is_told_once_and_its_next_line_counts(ledger: sa.Connection) -> None:
    due = dict(zip("ab", to_delivery(ledger, "a", "b"), strict=True))
    for error in ("refused: busy", "refused: busy", "down", "down"):
        for name, attempt in due.items():
            begin_attempt(ledger, attempt)
            [due[name]] = fail_attempt(ledger, attempt, error, 0.1, FOR_EVER, permanent=False)
    told = [line.detail for line in timeline(ledger) if line.what == "deliver failed"]
    assert told == [
        "0.10 s, a: refused: busy",
        "0.10 s, b: refused: busy",
        "0.10 s, a, attempt 3: down",
        "0.10 s, b, attempt 3: down",
    ]
    walk(ledger, due["a"])
    assert timeline(ledger)[-2:] == [("deliver failed", told[-1]), ("deliver finished", "1.50 s, a, attempt 5")]


def test_delay_of_the_stage_counts_where_the_sender_sets_none(ledger: sa.Connection) -> None:
    [attempt] = to_delivery(ledger, "a")
    for delay in (5.0, 10.0, 20.0):
        begin_attempt(ledger, attempt)
        [attempt] = fail_attempt(ledger, attempt, "disk", 0.1, FOR_EVER, permanent=False)
        assert attempt.delay_seconds == delay


def test_destination_that_is_given_up_cancels_the_job_with_its_reason(ledger: sa.Connection) -> None:
    to_a, to_b = to_delivery(ledger, "a", "b")
    settle(ledger, "a", "STORED")
    walk(ledger, to_a)
    fail_attempt(ledger, to_b, "not configured", 0.1, FOR_EVER, permanent=True)
    assert (job(ledger).state, reason_text(job(ledger).reason)) == ("CANCELED", "delivery to b: not configured")


def test_job_waits_for_a_stored_delivery_whose_proof_is_still_to_come(ledger: sa.Connection) -> None:
    to_a, to_b = to_delivery(ledger, "a", "b")
    settle(ledger, "a", "STORED")  # and its commitment is awaited: the attempt has not ended
    settle(ledger, "b", "STORED")
    walk(ledger, to_b)
    complete_delivered(ledger, NEW.id)
    assert job(ledger).state == "IN PROGRESS"
    assert [a.key for a in due_of(ledger, job(ledger))] == [to_a.key]
    settle(ledger, "a", "CONFIRMED")
    complete_delivered(ledger, NEW.id)
    assert job(ledger).state == "COMPLETED"


def test_cancelled_job_takes_no_report_and_owes_nothing(ledger: sa.Connection) -> None:
    to_a, to_b = to_delivery(ledger, "a", "b")
    settle(ledger, "a", "STORED")
    cancel_job(ledger, NEW.id, CANCELLED)
    assert (job(ledger).state, reason_text(job(ledger).reason)) == ("CANCELED", "cancelled by anna")
    assert begin_attempt(ledger, to_b) is None
    assert finish_attempt(ledger, to_a, 1.0, nothing) is None
    states = {row.destination: row.state for row in ledger.execute(sa.select(delivery))}
    assert states == {"a": "STORED", "b": "CANCELED"}
    with pytest.raises(NodeError, match="is CANCELED; only SCHEDULED or IN PROGRESS"):
        cancel_job(ledger, NEW.id, CANCELLED)


def test_retry_begins_a_new_run_that_sends_everything_again(ledger: sa.Connection) -> None:
    [to_a] = to_delivery(ledger, "a")
    ledger.execute(sa.insert(delivery_instance).values(job_id=NEW.id, destination="a", sop_instance_uid="1", status=0))
    settle(ledger, "a", "STORED")
    walk(ledger, to_a)
    [again] = retry_job(ledger, NEW.id, JobStage.DELIVER)
    assert (again.stage, again.subject, again.run, job(ledger).state) == (JobStage.DELIVER, "a", 1, "SCHEDULED")
    assert ledger.scalar(sa.select(sa.func.count()).select_from(delivery_instance)) == 0
    assert begin_attempt(ledger, to_a) is None
    assert begin_attempt(ledger, again) is not None
    settle(ledger, "a", "STORED")
    walk(ledger, again)
    [infer] = retry_job(ledger, NEW.id, JobStage.INFER)
    assert (infer.stage, job(ledger).outcome) == (JobStage.INFER, None)


def test_retry_of_a_cancelled_delivery_goes_on_with_it_and_of_all_else_with_inference(ledger: sa.Connection) -> None:
    to_delivery(ledger, "a")
    cancel_job(ledger, NEW.id, CANCELLED)
    assert [a.stage for a in retry_job(ledger, NEW.id)] == [JobStage.DELIVER]
    cancel_job(ledger, NEW.id, CANCELLED)
    retry_job(ledger, NEW.id, JobStage.INFER)
    cancel_job(ledger, NEW.id, CANCELLED)
    assert [a.stage for a in retry_job(ledger, NEW.id)] == [JobStage.INFER]


def test_retry_of_a_job_that_has_not_ended_is_refused_and_changes_nothing(ledger: sa.Connection) -> None:
    for infer in create_job(ledger, NEW):
        for state, stage in (("SCHEDULED", "infer"), ("IN PROGRESS", "infer")):
            before = job(ledger)
            with pytest.raises(NodeError, match=f"is {state} in stage {stage}; only COMPLETED or CANCELED .*cancel it"):
                retry_job(ledger, NEW.id)
            assert job(ledger) == before
            begin_attempt(ledger, infer)


@pytest.mark.parametrize(
    ("stage", "words"), [(JobStage.ENCODE, "nothing to encode"), (JobStage.DELIVER, "nothing to deliver"), ("x", "x")]
)
def test_retry_of_a_stage_with_nothing_to_begin_with_is_refused(ledger: sa.Connection, stage: str, words: str) -> None:
    create_job(ledger, NEW)
    cancel_job(ledger, NEW.id, CANCELLED)
    with pytest.raises(NodeError, match=words):
        retry_job(ledger, NEW.id, stage)


def test_unknown_job_is_named(ledger: sa.Connection) -> None:
    with pytest.raises(NotFoundError, match="job 'x' is not in the ledger"):
        get_job(ledger, "x")


def test_renewed_delivery_keeps_only_what_is_still_owed(ledger: sa.Connection) -> None:
    to_a, to_b = to_delivery(ledger, "a", "b")
    settle(ledger, "a", "STORED")
    walk(ledger, to_a)
    [again] = renew_attempts(ledger, to_b)
    assert (again.subject, again.run) == ("b", 1)
    nothing = sa.select(sa.literal("").label("key")).where(sa.false())
    assert [a.key for a in due_attempts(ledger, time.time() + 1, nothing)] == [again.key]
    assert due_attempts(ledger, time.time() - 60, nothing) == []
    assert due_attempts(ledger, time.time() + 1, nothing, [JobStage.INFER]) == []
    assert due_attempts(ledger, time.time() + 1, sa.select(sa.literal(f"{again.key}/").label("key"))) == []


def test_image_that_arrives_after_the_job_was_made_is_not_its_input(ledger: sa.Connection) -> None:
    create_job(ledger, NEW)
    row = {
        "sop_class_uid": "1",
        "transfer_syntax_uid": "1",
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.2.3",
        "modality": "CT",
        "digest": "",
        "size": 1,
    }
    at = job(ledger).created_at
    rows = [
        {**row, "sop_instance_uid": "9", "path": "early", "received_at": at - 1},
        {**row, "sop_instance_uid": "8", "path": "late", "received_at": at + 1},
        {**row, "sop_instance_uid": "7", "path": "other", "received_at": at - 1, "series_instance_uid": "1.2.4"},
    ]
    ledger.execute(sa.insert(instance), rows)
    assert source_paths(ledger, job(ledger)) == ["early"]


def test_results_of_a_repeated_encoding_replace_the_earlier_ones(ledger: sa.Connection) -> None:
    create_job(ledger, NEW)
    row = {name.key: "x" for name in result.c} | {"job_id": NEW.id, "size": 1, "created_at": 0.0, "quarantine": None}
    record_results(ledger, NEW.id, [row])
    record_results(ledger, NEW.id, [row | {"sop_instance_uid": "y"}, row | {"sop_instance_uid": "z"}])
    assert sorted(ledger.scalars(sa.select(result.c.sop_instance_uid))) == ["y", "z"]
