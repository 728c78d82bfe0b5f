"""Lists, steps, requests and conflicts in the ledger: the same answers from SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import postgres
import pytest
import sqlalchemy as sa
from receipts import SENDER, receipt

from node.ledger.commitments import (
    Named,
    due_transactions,
    end_transaction,
    postpone_transaction,
    purge_transactions,
    record_transaction,
    recorded_instances,
    report,
)
from node.ledger.conflicts import Pair, pairs_to_compare, record_differences
from node.ledger.corrections import outdated_deliveries
from node.ledger.engine import begin_immediate
from node.ledger.instances import record_instances
from node.ledger.job_creation import create_job
from node.ledger.jobs import NewJob, get_job
from node.ledger.procedure_steps import NewStep, create_step, purge_steps, state_of_step, update_step
from node.ledger.series import listed_series, receiving_series
from node.ledger.tables import (
    commitment,
    conflict,
    decision,
    delivery,
    delivery_instance,
    event,
    procedure_step,
    series,
)
from node.ledger.transitions import supersede_jobs
from node.reasons import ReasonCode, reason
from node.routing.completeness import Listing
from node.routing.series_state import Known, known_of

CT = "1.2.840.10008.5.1.4.1.1.2"


pytestmark = postgres.BOTH


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A ledger with three images of series 1.1.1, and the transaction in which everything happens."""
    with begin_immediate(engine) as opened:
        record_instances(opened, [receipt("1"), receipt("2"), receipt("3", at=12.0)])
        yield opened


def known(connection: sa.Connection) -> Known:
    (series,) = receiving_series(connection)
    return known_of(connection, series)


def ask(connection: sa.Connection, *uids: str, transaction: str = "7.1", association: str = "other") -> None:
    record_transaction(
        connection,
        calling_ae="CT1",
        transaction_uid=transaction,
        association_id=association,
        equipment=SENDER.equipment,
        named=[Named(sop_instance_uid=u, sop_class_uid=CT, failure=None if u < "4" else 0x0112) for u in uids],
        next_at=100.0,
    )


def step(connection: sa.Connection, uid: str = "8.1", **of: Any) -> bool:
    new = {
        "made": frozenset(),
        "study_instance_uid": "1.1",
        "modality": "CT",
        "calling_ae": "CT1",
        "equipment": SENDER.equipment,
        **of,
    }
    created = create_step(connection, NewStep(sop_instance_uid=uid, **new)) == "created"
    connection.execute(sa.update(procedure_step).values(created_at=1.0))
    return created


def made(*uids: str) -> frozenset[tuple[str, str]]:
    return frozenset((("1.1.1", ""), *(("1.1.1", uid) for uid in uids)))


def test_a_request_is_seen_from_its_series_with_what_is_absent_unnamed_and_still_sending(connection) -> None:
    assert listed_series(connection) == set()
    ask(connection, "1", "2", "4")
    ask(connection, "3", transaction="7.2")
    ask(connection, "1", "2", "3", transaction="7.3", association=SENDER.id)
    assert listed_series(connection) == {("1.1", "1.1.1")}
    by = {"code": "commitment request", "calling_ae": "CT1"}
    state = known(connection)
    assert list(state.paths) == ["1", "2", "3"]
    assert state.senders == {SENDER.id}
    assert sorted(state.listings, key=lambda listing: listing.absent) == [
        Listing(by=by, named=3, absent=0, unnamed=0, other_senders=0),
        Listing(by=by, named=3, absent=1, unnamed=1, other_senders=1),
    ]


def test_a_transaction_goes_from_due_to_postponed_to_ended_to_forgotten(connection) -> None:
    ask(connection, "1", "4")
    assert due_transactions(connection, 99.0) == []
    (due,) = due_transactions(connection, 100.0)
    assert (due.calling_ae, due.transaction_uid, due.attempt) == ("CT1", "7.1", 0)
    event_type, information = report(connection, "CT1", "7.1")
    assert event_type == 2
    assert [item.ReferencedSOPInstanceUID for item in information.ReferencedSOPSequence] == ["1"]
    assert [item.FailureReason for item in information.FailedSOPSequence] == [0x0112]
    postpone_transaction(connection, "CT1", "7.1", "away", 200.0)
    assert due_transactions(connection, 199.0) == []
    assert due_transactions(connection, 200.0)[0].attempt == 1
    ask(connection, "1")
    assert report(connection, "CT1", "7.1")[0] == 1
    end_transaction(connection, "CT1", "7.1")
    assert due_transactions(connection, 1e12) == []
    purge_transactions(connection, 1e12)
    assert connection.execute(sa.select(commitment)).all() == []
    assert recorded_instances(connection, [str(n) for n in range(2000)]).keys() == {"1", "2", "3"}


def test_steps_are_seen_from_the_series_that_they_made_or_may_have_made(connection) -> None:
    assert step(connection)
    assert not step(connection)
    assert (known(connection).in_progress or {})["state"] == "IN PROGRESS"
    assert state_of_step(connection, "8.1") == ("IN PROGRESS", SENDER.equipment)
    update_step(connection, "8.1", "COMPLETED", made("1", "2"))
    step(connection, "8.2", made=frozenset({("1.1.9", "")}))
    step(connection, "8.3", modality="MR")
    assert known(connection).in_progress is None
    step(connection, "8.4", made=made("3", "4"))
    assert (known(connection).in_progress or {})["state"] == "IN PROGRESS"
    update_step(connection, "8.4", "COMPLETED", ())
    (listing,) = known(connection).listings
    assert (listing.named, listing.absent, listing.unnamed) == (4, 1, 0)
    assert listed_series(connection) == {("1.1", "1.1.1")}


def test_a_discontinued_step_stops_the_jobs_and_the_waiting_decisions_of_its_series(connection) -> None:
    new = NewJob(
        study_instance_uid="1.1",
        series_instance_uid="1.1.1",
        generation=1,
        pipeline="p",
        rule="r",
        destinations=("pacs",),
        priority=2,
    )
    create_job(connection, new)
    waiting = {"study_instance_uid": "1.1", "series_instance_uid": "1.1.1", "generation": 1, "decided_at": 1.0}
    why = reason(ReasonCode.WAITS_FOR_STUDY, rules=["r"])
    connection.execute(sa.insert(decision).values(**waiting, outcome="waiting", reason=why, trace=[]))
    step(connection)
    step(connection, "8.2", equipment="10.0.0.66")
    update_step(connection, "8.2", "DISCONTINUED", made())
    assert get_job(connection, new.id).state == "SCHEDULED", "another device is no reason"
    assert connection.scalar(sa.select(decision.c.outcome)) == "waiting"
    update_step(connection, "8.1", "DISCONTINUED", made())
    assert get_job(connection, new.id).state == "CANCELED"
    assert connection.scalar(sa.select(decision.c.outcome)) == "ignored"
    assert (known(connection).discontinued or {})["state"] == "DISCONTINUED"
    purge_steps(connection, 1e12)
    assert len(connection.execute(sa.select(procedure_step)).all()) == 2
    connection.execute(sa.delete(series))
    purge_steps(connection, 1e12)
    assert connection.execute(sa.select(procedure_step)).all() == []


def test_conflicts_are_compared_once_and_flag_what_was_sent(connection) -> None:
    record_instances(connection, [receipt("1", conflict=True, path="conflicts/1", digest="f" * 64)])
    (pair,) = pairs_to_compare(connection)
    first = "incoming/1.1/1.1.1/1.dcm"
    assert pair == Pair(
        sop_instance_uid="1",
        study_instance_uid="1.1",
        series_instance_uid="1.1.1",
        first=first,
        second="conflicts/1",
    )
    record_differences(connection, [(pair, "identity", "PatientID")])
    assert pairs_to_compare(connection) == []
    assert connection.scalar(sa.select(conflict.c.changed)) == "PatientID"
    last = connection.execute(sa.select(event).order_by(event.c.id.desc())).first()
    assert (last.kind, last.parameters["change"]) == ("images changed", "identity")
    jobs = [
        NewJob(
            study_instance_uid="1.1",
            series_instance_uid="1.1.1",
            generation=generation,
            pipeline="p",
            rule="r",
            destinations=("pacs",),
            priority=2,
        )
        for generation in (1, 2)
    ]
    for new, state in zip(jobs, ("CONFIRMED", "SCHEDULED"), strict=True):
        create_job(connection, new)
        row = {"job_id": new.id, "destination": "pacs", "state": state, "attempt": 0}
        connection.execute(sa.insert(delivery).values(**row, created_at=1.0, updated_at=1.0))
    assert outdated_deliveries(connection, "1.1") == [], "nothing was taken yet"
    taken = {"job_id": jobs[0].id, "destination": "pacs", "sop_instance_uid": "9", "status": 0x0000}
    connection.execute(sa.insert(delivery_instance).values(**taken))
    assert [(o.job_id, o.destination) for o in outdated_deliveries(connection, "1.1")] == [(jobs[0].id, "pacs")]
    assert outdated_deliveries(connection, "1.2") == []
    supersede_jobs(connection, "1.1", "1.1.1", 2)
    assert [get_job(connection, new.id).state for new in jobs] == ["CANCELED", "SCHEDULED"]
