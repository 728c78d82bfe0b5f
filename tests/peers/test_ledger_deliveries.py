"""Transitions of the deliveries in the ledger."""

from __future__ import annotations

from collections.abc import Iterator

import postgres
import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage
from timeline import timeline

from node.errors import DeliveryError
from node.ledger import DeliveryState
from node.ledger import deliveries as d
from node.ledger import pending_deliveries as o
from node.ledger.delivery_proof import record_commitment, record_query_result, record_request
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Retries, due_of, get_job
from node.ledger.retry_transitions import retry_job
from node.ledger.tables import delivery_instance, job, result
from node.ledger.transitions import cancel_job, fail_attempt
from node.reasons import ReasonCode, reason

JOB, PACS = "job-1", "pacs"


pytestmark = postgres.BOTH


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with begin_immediate(engine) as connection:
        connection.execute(
            sa.insert(job).values(
                id=JOB,
                study_instance_uid="1.2",
                series_instance_uid="1.2.3",
                generation=1,
                pipeline="nodule",
                rule="chest",
                destinations=[PACS],
                priority=2,
                state="IN PROGRESS",
                stage="deliver",
                run=0,
                attempt=1,
                created_at=1.0,
                updated_at=1.0,
            )
        )
        for number in (1, 2):
            add_result(connection, f"1.2.3.{number}")
        d.schedule_delivery(connection, JOB, PACS)
        yield connection


def add_result(connection: sa.Connection, uid: str, quarantine: str | None = None) -> None:
    connection.execute(
        sa.insert(result).values(
            sop_instance_uid=uid,
            job_id=JOB,
            sop_class_uid=SegmentationStorage,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            series_instance_uid="1.2.4",
            description="",
            path=f"results/{uid}.dcm",
            digest="",
            size=100,
            quarantine=quarantine,
            created_at=1.0,
        )
    )


def owed(connection: sa.Connection) -> list[str]:
    return [instance.sop_instance_uid for instance in o.instances_to_store(connection, JOB, PACS)]


def test_only_results_of_the_kinds_a_destination_wants_are_owed_also_after_a_retry(connection: sa.Connection) -> None:
    connection.execute(sa.update(result).where(result.c.sop_instance_uid == "1.2.3.1").values(kind="sr"))
    connection.execute(sa.update(result).where(result.c.sop_instance_uid == "1.2.3.2").values(kind="sr alone"))
    d.schedule_delivery(connection, JOB, PACS, ["seg", "sr"])
    assert owed(connection) == ["1.2.3.1"]
    assert status(connection).instances == 1
    cancel_job(connection, JOB, reason(ReasonCode.CANCELLED, operator=""))
    retry_job(connection, JOB, "deliver")
    assert owed(connection) == ["1.2.3.1"]
    answer(connection, "1.2.3.1", 0x0000)
    assert d.settle_delivery(connection, JOB, PACS) == DeliveryState.STORED


def answer(connection: sa.Connection, uid: str, status: int | None) -> None:
    assert d.record_statuses(connection, claim(connection), [d.ObjectStatus(uid, status)])


def claim(connection: sa.Connection) -> d.Claim:
    """The right to report, without an attempt of its own."""
    return d.Claim(job_id=JOB, destination=PACS, attempt=1, since=status(connection).created_at)


def status(connection: sa.Connection) -> o.DeliveryStatus:
    (delivery,) = o.deliveries_of(connection, JOB)
    return delivery


@pytest.mark.parametrize("code", [0x0000, 0xB000, 0xB006, 0xB007, 0xBFFF, 0x0111])
def test_a_stored_instance_is_never_owed_again(connection: sa.Connection, code: int) -> None:
    assert o.is_stored(code)
    answer(connection, "1.2.3.1", code)
    assert owed(connection) == ["1.2.3.2"]


@pytest.mark.parametrize("code", [None, 0x0110, 0x0122, 0x0124, 0xA700, 0xA7FF, 0xA900, 0xC000, 0xCFFF, 0xFE00])
def test_a_refused_instance_stays_owed(connection: sa.Connection, code: int | None) -> None:
    assert not o.is_stored(code)
    answer(connection, "1.2.3.1", code)
    assert owed(connection) == ["1.2.3.2", "1.2.3.1"], "after those that were not tried yet"
    assert d.settle_delivery(connection, JOB, PACS) == "SCHEDULED"


def test_quarantined_results_are_owed_to_nobody(connection: sa.Connection) -> None:
    add_result(connection, "1.2.3.9", quarantine="geometry differs")
    assert "1.2.3.9" not in owed(connection)
    assert status(connection).instances == 2


def test_a_delivery_is_stored_only_when_its_last_instance_is(connection: sa.Connection) -> None:
    begun = d.begin_delivery(connection, JOB, PACS)
    assert begun == claim(connection)
    assert status(connection).state == "IN PROGRESS"
    answer(connection, "1.2.3.1", 0)
    assert d.settle_delivery(connection, JOB, PACS) == "SCHEDULED"
    answer(connection, "1.2.3.2", 0xB000)
    assert d.settle_delivery(connection, JOB, PACS) == "STORED"
    assert timeline(connection) == [("delivery stored", "pacs: 2 instances")]
    assert (status(connection).stored, status(connection).committed) == (2, 0)


def test_new_results_reopen_a_delivery_and_only_they_are_sent(connection: sa.Connection) -> None:
    for uid in ("1.2.3.1", "1.2.3.2"):
        answer(connection, uid, 0)
    d.settle_delivery(connection, JOB, PACS)
    add_result(connection, "1.2.3.3")
    d.schedule_delivery(connection, JOB, PACS)
    assert status(connection).state == "SCHEDULED"
    assert owed(connection) == ["1.2.3.3"]


def test_a_cancelled_delivery_is_not_begun_and_a_running_one_learns_of_it(connection: sa.Connection) -> None:
    begun = d.begin_delivery(connection, JOB, PACS)
    assert begun is not None
    d.cancel_deliveries(connection, JOB)
    assert not d.record_statuses(connection, begun, [d.ObjectStatus("1.2.3.1", 0)])
    assert d.begin_delivery(connection, JOB, PACS) is None
    d.release_delivery(connection, JOB, PACS)
    assert (status(connection).state, status(connection).error) == ("CANCELED", None)


def test_a_delivery_counts_its_attempts_and_is_scheduled_again_after_each(connection: sa.Connection) -> None:
    for attempt in (1, 2, 3):
        begun = d.begin_delivery(connection, JOB, PACS)
        assert begun is not None
        assert begun.attempt == attempt
        assert status(connection).state == "IN PROGRESS"
        assert d.release_delivery(connection, JOB, PACS) == status(connection).state == "SCHEDULED"


def test_an_attempt_that_fails_before_it_begins_does_not_make_an_empty_delivery_stored(
    connection: sa.Connection,
) -> None:
    connection.execute(sa.delete(result))
    assert d.release_delivery(connection, JOB, PACS) == status(connection).state == "SCHEDULED"


def test_commitment_of_every_instance_confirms(connection: sa.Connection) -> None:
    both = ["1.2.3.1", "1.2.3.2"]
    for uid in both:
        answer(connection, uid, 0)
    d.settle_delivery(connection, JOB, PACS)
    record_request(connection, JOB, PACS, both, "2.25.1")
    assert o.instances_to_confirm(connection, JOB, PACS, asked_before=0.0) == []
    assert record_commitment(connection, "2.25.1", both[:1], [])
    assert status(connection).state == "STORED"
    assert record_commitment(connection, "2.25.1", both[1:], [])
    assert status(connection).state == "CONFIRMED"
    assert d.begin_delivery(connection, JOB, PACS) is None


def test_a_proof_that_arrives_before_the_failure_is_recorded_ends_the_delivery_without_an_error(
    connection: sa.Connection,
) -> None:
    both = ["1.2.3.1", "1.2.3.2"]
    [attempt] = due_of(connection, get_job(connection, JOB))
    for uid in both:
        answer(connection, uid, 0)
    d.settle_delivery(connection, JOB, PACS)
    record_request(connection, JOB, PACS, both, "2.25.1")
    record_commitment(connection, "2.25.1", both, [])
    late = DeliveryError("no Storage Commitment report yet")
    late.retry_seconds = 900.0
    retries = Retries(max_attempts=None, first_seconds=5.0, max_seconds=600.0)
    [again] = fail_attempt(connection, attempt, str(late), 0.1, retries, permanent=False, failure=late)
    assert again.delay_seconds == 0.0
    assert (status(connection).state, status(connection).error) == ("CONFIRMED", None)


def test_an_unanswered_request_is_asked_again(connection: sa.Connection) -> None:
    answer(connection, "1.2.3.1", 0)
    record_request(connection, JOB, PACS, ["1.2.3.1"], "2.25.1")
    later = o.instances_to_confirm(connection, JOB, PACS, asked_before=float("inf"))
    assert [instance.sop_instance_uid for instance in later] == ["1.2.3.1"]


def test_what_the_peer_cannot_commit_is_sent_again(connection: sa.Connection) -> None:
    both = ["1.2.3.1", "1.2.3.2"]
    for uid in both:
        answer(connection, uid, 0)
    record_request(connection, JOB, PACS, both, "2.25.1")
    assert record_commitment(connection, "2.25.1", both[:1], [(both[1], 0x0112)])
    assert status(connection).state == "SCHEDULED"
    assert owed(connection) == [both[1]]


def test_a_report_for_an_unknown_transaction_changes_nothing(connection: sa.Connection) -> None:
    assert not record_commitment(connection, "2.25.99", ["1.2.3.1"], [])
    assert status(connection).committed == 0


def test_a_report_does_not_vouch_for_instances_outside_its_request(connection: sa.Connection) -> None:
    for uid in ("1.2.3.1", "1.2.3.2"):
        answer(connection, uid, 0)
    record_request(connection, JOB, PACS, ["1.2.3.1"], "2.25.1")
    record_commitment(connection, "2.25.1", ["1.2.3.1", "1.2.3.2"], [])
    assert (status(connection).state, status(connection).committed) == ("STORED", 1)


def test_a_sender_that_a_retry_overtook_may_say_nothing(connection: sa.Connection) -> None:
    overtaken = d.begin_delivery(connection, JOB, PACS)
    assert overtaken is not None
    for stage, rows in (("deliver", 2), ("infer", 0)):
        cancel_job(connection, JOB, reason(ReasonCode.CANCELLED, operator=""))
        retry_job(connection, JOB, stage)
        assert not d.record_statuses(connection, overtaken, [d.ObjectStatus("1.2.3.1", 0)])
        record_query_result(connection, overtaken, ["1.2.3.1"], ["1.2.3.2"], 1e12)
        assert connection.scalar(sa.select(sa.func.count()).select_from(delivery_instance)) == 0
        assert len(owed(connection)) == rows
        assert all(status.error is None for status in o.statuses(connection, sa.true()))


def test_what_is_found_is_confirmed_and_what_is_not_there_in_time_is_sent_again(connection: sa.Connection) -> None:
    begun = d.begin_delivery(connection, JOB, PACS)
    assert begun is not None
    for uid in ("1.2.3.1", "1.2.3.2"):
        answer(connection, uid, 0)
    record_query_result(connection, begun, ["1.2.3.1"], ["1.2.3.2"], sent_before=0.0)
    assert (status(connection).state, status(connection).committed) == ("STORED", 1)
    record_query_result(connection, begun, [], ["1.2.3.2"], sent_before=1e12)
    assert (status(connection).state, owed(connection)) == ("SCHEDULED", ["1.2.3.2"])
    answer(connection, "1.2.3.2", 0)
    record_query_result(connection, begun, ["1.2.3.2"], [], sent_before=0.0)
    assert status(connection).state == "CONFIRMED"
