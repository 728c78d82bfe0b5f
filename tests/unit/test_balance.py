"""The balance of studies and images: which part each is in, and what is counted of several."""

from __future__ import annotations

from typing import Any

import pytest

from node.ledger.account_rows import AccountDecision, AccountSeries
from node.ledger.jobs import Job
from node.ledger.pending_deliveries import DeliveryStatus
from node.ledger.states import DeliveryState, JobStage, JobState, SeriesState
from node.operate.account.balance import NOTHING, Balance, Count, Sum, add_up, balance
from node.operate.account.rows import AccountRows


def a_series(uid: str, outcome: str = "routed", *, study: str = "1", images: int = 3) -> AccountSeries:
    decision = AccountDecision(
        study_instance_uid=study,
        series_instance_uid=uid,
        generation=1,
        outcome=outcome,
        reason="",
        cause=None,
        pipelines=(),
    )
    return AccountSeries(
        study_instance_uid=study, series_instance_uid=uid, modality="CT", state=SeriesState.COMPLETE, generation=1,
        instances=images, first_at=1.0, last_at=2.0, refused_at=None, recorded=images, decisions={1: decision},
    )  # fmt: skip


def a_job(uid: str, outcome: str, *, study: str = "1") -> Job:
    row: dict[str, Any] = {
        "id": f"{study}/{uid}", "study_instance_uid": study, "series_instance_uid": uid, "generation": 1,
        "pipeline": "nodule", "rule": "ct", "companions": {}, "destinations": (), "priority": 2,
        "state": JobState.COMPLETED, "stage": JobStage.DELIVER, "run": 0, "attempt": 0, "next_at": None,
        "outcome": outcome, "reason": None, "error": None, "created_at": 1.0, "updated_at": 2.0, "incomplete": None,
        "caveat": None, "progress_at": 1.0,
    }  # fmt: skip
    return Job(**row)


def of(studies: int, entries: int, instances: int) -> Count:
    return Count(studies=studies, entries=entries, instances=instances)


def test_series_and_images_of_a_part_are_added_up_and_each_study_counts_once_in_it() -> None:
    result = add_up([("b", "1", 5), ("a", "1", 2), ("b", "1", 7), ("b", "2", 11)])
    assert list(result.parts.items()) == [("a", of(1, 1, 2)), ("b", of(2, 3, 23))]
    assert result.total == of(2, 4, 25)


@pytest.mark.parametrize(
    ("outcome", "part"),
    [
        ("findings", "processed"),
        ("nothing found", "processed"),
        ("not applicable", "not applicable"),
        ("failed", "failed"),
    ],
)
def test_an_analysis_that_said_nothing_of_its_images_does_not_count_as_processed(outcome: str, part: str) -> None:
    sums = balance(AccountRows(series=(a_series("1.1"),), jobs=(a_job("1.1", outcome),)))
    assert sums.analysed.parts == {part: of(1, 1, 3)}


def test_each_study_is_in_the_first_part_that_one_of_its_series_is_in() -> None:
    series = (
        a_series("1.1", "ignored"),
        a_series("1.2"),
        a_series("2.1", "ignored", study="2", images=5),
        a_series("3.1", "ignored", study="3", images=7),
        a_series("4.1", study="4", images=11),
    )
    sums = balance(AccountRows(series=series, jobs=(a_job("1.2", "findings"), a_job("4.1", "failed", study="4"))))
    assert sums.received.parts == {"routed": of(2, 2, 14), "ignored": of(2, 3, 15)}
    assert sums.received.total == of(4, 5, 29)
    assert sums.analysed.parts == {"failed": of(1, 1, 11), "processed": of(1, 1, 3)}
    assert sums.delivered.parts == {"kept here only": of(2, 2, 14)}


def test_sums_of_two_portions_add_up_in_total_and_in_each_part_that_either_has() -> None:
    first = Sum(total=of(3, 7, 70), parts={"a": of(1, 2, 20), "c": of(2, 5, 50)})
    other = Sum(total=of(5, 11, 110), parts={"b": of(1, 1, 10), "c": of(4, 10, 100)})
    both = Sum(total=of(8, 18, 180), parts={"a": of(1, 2, 20), "b": of(1, 1, 10), "c": of(6, 15, 150)})
    assert first.plus(other) == other.plus(first) == both
    assert list(other.plus(first).parts) == ["a", "b", "c"]


def test_parts_come_in_their_order_and_those_without_a_place_after_them_by_name() -> None:
    base = Sum(total=NOTHING, parts=dict.fromkeys(("y", "first", "x"), NOTHING))
    other = Sum(total=NOTHING, parts={"second": NOTHING})
    order = ("second", "first", "absent")
    assert list(base.plus(other, order).parts) == ["second", "first", "x", "y"]


def a_delivery(study: str, state: DeliveryState) -> DeliveryStatus:
    return DeliveryStatus(
        job_id=f"{study}/{study}.1", destination="pacs", state=state, ended_at=None, attempt=1, next_at=None,
        error=None, created_at=1.0, alarmed_at=None, instances=1, stored=0, committed=0,
    )  # fmt: skip


def portion(study: str, outcome: str, delivery: DeliveryState) -> Balance:
    uid = f"{study}.1"
    jobs = (a_job(uid, outcome, study=study),)
    return balance(
        AccountRows(series=(a_series(uid, study=study),), jobs=jobs, deliveries=(a_delivery(study, delivery),))
    )


def test_the_parts_of_every_sum_keep_their_order_when_portions_are_added() -> None:
    confirmed = portion("1", "not applicable", DeliveryState.CONFIRMED)
    waiting = portion("2", "findings", DeliveryState.SCHEDULED)
    sums = balance(AccountRows(series=(a_series("3.1", "ignored", study="3"),))) + confirmed + waiting
    assert list(sums.received.parts.items()) == [("routed", of(2, 2, 6)), ("ignored", of(1, 1, 3))]
    assert list(sums.analysed.parts.items()) == [("processed", of(1, 1, 3)), ("not applicable", of(1, 1, 3))]
    assert list(sums.delivered.parts.items()) == [("waiting", of(1, 1, 3)), ("confirmed", of(1, 1, 3))]
