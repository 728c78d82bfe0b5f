"""How far a study, a series, a job and a delivery is: derived once, in every state."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import pairwise, product
from operator import add
from typing import Any

import pytest
import sqlalchemy as sa
from ledgers import open_copy

from node.config import FORWARD
from node.ledger import tables
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Job
from node.ledger.progress import (
    OPEN,
    Decision,
    DeliveryProgress,
    DeliveryStep,
    JobProgress,
    Progress,
    SeriesProgress,
    StudyProgress,
    least_advanced,
    progress_of_job,
    project,
)
from node.ledger.series import Series
from node.ledger.states import DecisionOutcome, DeliveryState, JobStage, JobState, SeriesState, ShadowCause
from node.operate.account.balance import Balance, Count, balance
from node.operate.account.rows import read
from node.reasons import ReasonCode, reason
from node.web.study_list import latest


def a_job(name: str = "a", **values: Any) -> Job:
    row: dict[str, Any] = {
        "id": name, "study_instance_uid": "1", "series_instance_uid": "1.1", "generation": 1, "pipeline": "nodule",
        "rule": "ct", "companions": {}, "destinations": ("pacs",), "priority": 2, "state": JobState.COMPLETED,
        "stage": JobStage.DELIVER, "run": 0, "attempt": 0, "next_at": None, "outcome": "findings", "reason": None,
        "error": None, "created_at": 1.0, "updated_at": 2.0, "incomplete": None, "caveat": None, "progress_at": 1.0,
    }  # fmt: skip
    return Job(**{**row, **values})


def a_delivery(
    state: DeliveryState, ended_at: float | None = None, *, job_id: str = "a", to: str = "pacs"
) -> DeliveryProgress:
    return DeliveryProgress(job_id=job_id, destination=to, state=state, ended_at=ended_at)


def a_series(state: SeriesState = SeriesState.COMPLETE, generation: int = 1, uid: str = "1.1") -> Series:
    return Series(
        study_instance_uid="1", series_instance_uid=uid, modality="CT", state=state, generation=generation, instances=3,
        first_at=1.0, last_at=2.0, refused_at=None,
    )  # fmt: skip


def a_decision(outcome: str = DecisionOutcome.ROUTED, generation: int = 1, uid: str = "1.1") -> Decision:
    return Decision(
        study_instance_uid="1", series_instance_uid=uid, generation=generation, outcome=outcome, reason="", cause=None
    )


JOBS = [
    (JobState.SCHEDULED, JobStage.INFER, None, False, (), Progress.QUEUED),
    (JobState.SCHEDULED, JobStage.INFER, None, True, (), Progress.QUEUED),
    (JobState.IN_PROGRESS, JobStage.INFER, None, False, (), Progress.RUNNING),
    (JobState.IN_PROGRESS, JobStage.INFER, None, True, (), Progress.QUEUED),
    (JobState.SCHEDULED, JobStage.ENCODE, "not applicable", False, (), Progress.ENCODING),
    (JobState.IN_PROGRESS, JobStage.ENCODE, "failed", True, (), Progress.ENCODING),
    (JobState.SCHEDULED, JobStage.DELIVER, "forwarded", False, ("SCHEDULED",), Progress.DELIVERING),
    (JobState.IN_PROGRESS, JobStage.DELIVER, "failed", False, ("STORED",), Progress.DELIVERING),
    (JobState.COMPLETED, JobStage.DELIVER, "findings", False, (), Progress.KEPT),
    (JobState.COMPLETED, JobStage.DELIVER, "findings", False, ("STORED",), Progress.STORED),
    (JobState.COMPLETED, JobStage.DELIVER, "findings", False, ("STORED", "CONFIRMED"), Progress.STORED),
    (JobState.COMPLETED, JobStage.DELIVER, "findings", False, ("CONFIRMED", "CONFIRMED"), Progress.CONFIRMED),
    (JobState.COMPLETED, JobStage.DELIVER, "failed", False, ("CONFIRMED",), Progress.FAILED),
    (JobState.CANCELED, JobStage.DELIVER, "findings", False, ("CONFIRMED", "CANCELED"), Progress.CANCELLED),
    (JobState.CANCELED, JobStage.INFER, "held", False, (), Progress.HELD),
]  # fmt: skip


@pytest.mark.parametrize(("state", "stage", "outcome", "later", "deliveries", "progress"), JOBS)
def test_a_job_is_as_far_as_its_state_stage_outcome_and_deliveries_say(
    state: str, stage: str, outcome: str | None, *, later: bool, deliveries: tuple[str, ...], progress: Progress
) -> None:
    assert progress_of_job(state, stage, outcome, retries_later=later, deliveries=deliveries) == progress


def test_every_state_and_stage_of_a_job_has_a_progress_and_only_active_ones_are_open() -> None:
    for state, stage in product(JobState, JobStage):
        progress = progress_of_job(state, stage, None, retries_later=False, deliveries=())
        assert (progress in OPEN) == (state in (JobState.SCHEDULED, JobState.IN_PROGRESS))


@pytest.mark.parametrize(
    ("state", "ended_at", "step"),
    [
        (DeliveryState.SCHEDULED, None, DeliveryStep.WAITING),
        (DeliveryState.IN_PROGRESS, None, DeliveryStep.WAITING),
        (DeliveryState.STORED, None, DeliveryStep.AWAITING_PROOF),
        (DeliveryState.STORED, 1.0, DeliveryStep.STORED),
        (DeliveryState.CONFIRMED, None, DeliveryStep.CONFIRMED),
        (DeliveryState.CONFIRMED, 1.0, DeliveryStep.CONFIRMED),
        (DeliveryState.CANCELED, 1.0, DeliveryStep.CANCELLED),
    ],
)
def test_a_delivery_is_as_far_as_its_state_and_its_end_say(
    state: DeliveryState, ended_at: float | None, step: DeliveryStep
) -> None:
    assert a_delivery(state, ended_at).step == step


@pytest.mark.parametrize("outcome", DecisionOutcome)
def test_a_series_without_jobs_is_as_far_as_its_routing(outcome: DecisionOutcome) -> None:
    decided = SeriesProgress(series=a_series(), decision=a_decision(outcome), jobs=())
    assert (decided.routing, decided.progress) == (outcome, outcome)
    late = SeriesProgress(series=a_series(SeriesState.RECEIVING), decision=a_decision(outcome), jobs=())
    assert (late.routing, late.progress) == (Progress.RECEIVING, Progress.RECEIVING)
    undecided = SeriesProgress(series=a_series(), decision=None, jobs=())
    assert (undecided.routing, undecided.progress) == (Progress.UNDECIDED, Progress.UNDECIDED)


def series_of(*jobs: JobProgress, generation: int, outcome: str = DecisionOutcome.ROUTED) -> SeriesProgress:
    return SeriesProgress(series=a_series(generation=generation), decision=a_decision(outcome, generation), jobs=jobs)


def test_an_analysis_that_a_later_generation_superseded_says_nothing_of_its_series() -> None:
    superseded = JobProgress(job=a_job(state=JobState.CANCELED, reason="superseded by generation 2 of its series"))
    confirmed = JobProgress(job=a_job("b", generation=2), deliveries=(a_delivery(DeliveryState.CONFIRMED, job_id="b"),))
    assert series_of(superseded, confirmed, generation=2).progress == Progress.CONFIRMED
    assert series_of(superseded, generation=2, outcome="ignored").progress == Progress.IGNORED


def test_an_earlier_generation_counts_while_it_works_and_where_it_sends_images_on() -> None:
    confirmed = JobProgress(job=a_job("b", generation=2), deliveries=(a_delivery(DeliveryState.CONFIRMED, job_id="b"),))
    again = JobProgress(job=a_job(state=JobState.SCHEDULED, stage=JobStage.INFER))
    assert series_of(again, confirmed, generation=2).progress == Progress.QUEUED
    refused = JobProgress(job=a_job(pipeline=FORWARD, state=JobState.CANCELED))
    assert series_of(refused, confirmed, generation=2).progress == Progress.CANCELLED


def test_a_job_whose_next_attempt_has_a_time_does_not_run() -> None:
    running = a_job(state=JobState.IN_PROGRESS, stage=JobStage.INFER, next_at=None)
    assert JobProgress(job=running).progress == Progress.RUNNING
    assert JobProgress(job=replace(running, next_at=9.0)).progress == Progress.QUEUED


def test_what_is_tried_in_shadow_counts_only_where_a_series_has_nothing_else() -> None:
    tried = JobProgress(job=a_job(outcome="failed", shadow=ShadowCause.TRIAL))
    confirmed = JobProgress(job=a_job("b"), deliveries=(a_delivery(DeliveryState.CONFIRMED, job_id="b"),))
    assert series_of(tried, confirmed, generation=1).current_jobs == (confirmed,)
    assert series_of(tried, confirmed, generation=1).progress == Progress.CONFIRMED
    assert series_of(tried, generation=1).progress == Progress.FAILED


def test_the_jobs_of_a_study_come_oldest_first_whichever_series_they_are_of() -> None:
    def of(uid: str, *jobs: tuple[str, float]) -> SeriesProgress:
        made = tuple(JobProgress(job=a_job(name, series_instance_uid=uid, created_at=at)) for name, at in jobs)
        return SeriesProgress(series=a_series(uid=uid), decision=a_decision(uid=uid), jobs=made)

    study = StudyProgress(study_instance_uid="1", series=(of("1.1", ("a", 2.0), ("z", 5.0)), of("1.2", ("m", 1.0))))
    assert [progress.job.id for progress in study.jobs] == ["m", "a", "z"]


def test_of_several_the_least_advanced_counts_then_what_went_wrong() -> None:
    order = list(Progress)
    for earlier, later in pairwise(order):
        assert least_advanced([later, earlier]) == earlier
    assert least_advanced([]) == Progress.IGNORED
    working = JobProgress(job=a_job(state=JobState.IN_PROGRESS, stage=JobStage.INFER))
    failed = JobProgress(job=a_job("b", outcome="failed"))
    assert series_of(working, failed, generation=1).progress == Progress.RUNNING
    other = SeriesProgress(series=a_series(uid="1.2"), decision=a_decision("ignored", uid="1.2"), jobs=())
    study = StudyProgress(study_instance_uid="1", series=(series_of(failed, generation=1), other))
    assert study.progress == Progress.FAILED


def test_rows_are_put_together_by_series_generation_and_job() -> None:
    studies = project(
        [a_series(generation=2), a_series(uid="1.2")],
        [a_decision("ignored", 1), a_decision("routed", 2), a_decision("ignored", uid="1.2")],
        [a_job("b", generation=2, created_at=5.0), a_job("a"), a_job("c", series_instance_uid="1.9")],
        [
            a_delivery(DeliveryState.STORED, job_id="b", to="z"),
            a_delivery(DeliveryState.CONFIRMED, job_id="b", to="pacs"),
        ],
    )
    (study,) = studies
    first, second = study.series
    assert first.decision is not None
    assert (first.decision.outcome, [progress.job.id for progress in first.jobs]) == ("routed", ["a", "b"])
    assert [delivery.destination for delivery in first.jobs[1].deliveries] == ["pacs", "z"]
    assert (second.progress, second.jobs) == (Progress.IGNORED, ())
    assert (study.images, study.first_at, study.last_at) == (6, 1.0, 2.0)


NO_RULE = reason(ReasonCode.NO_RULE)
SERIES = {"study_instance_uid": "1", "series_instance_uid": "1.1"}


def ledger_with(*jobs: dict[str, Any], generation: int = 1, outcome: str = "routed") -> sa.Engine:
    """One series with its decisions; each job with its deliveries, by destination: state."""
    engine = open_copy("sqlite://")
    with begin_immediate(engine) as connection:
        times = {"first_at": 1.0, "last_at": 2.0}
        row = {**SERIES, **times, "modality": "CT", "instances": 1, "state": "COMPLETE", "generation": generation}
        connection.execute(sa.insert(tables.series).values(row))
        image = {"sop_instance_uid": "1.1.1", "sop_class_uid": "2", "transfer_syntax_uid": "3", "modality": "CT"}
        connection.execute(
            sa.insert(tables.instance).values(**SERIES, **image, path="p", digest="d", size=1, received_at=1.0)
        )
        for number in range(1, generation + 1):
            decision = {"generation": number, "outcome": outcome, "reason": NO_RULE, "trace": [], "decided_at": 3.0}
            connection.execute(sa.insert(tables.decision).values(**SERIES, **decision))
        for job in jobs:
            deliveries = job.pop("deliveries", {})
            values = {**vars(a_job()), "destinations": ["pacs"], **job}
            connection.execute(sa.insert(tables.job).values(values))
            for destination, state in deliveries.items():
                key = {"job_id": values["id"], "destination": destination, "state": state}
                connection.execute(sa.insert(tables.delivery).values(**key, attempt=1, created_at=4.0, updated_at=5.0))
    return engine


def balance_of(engine: sa.Engine) -> Balance:
    return reduce(add, map(balance, read(engine).portions()))


def parts(engine: sa.Engine) -> tuple[str, str, str]:
    """The stage of the study in the list, the parts of its series in the account: analysed and delivered."""
    with engine.connect() as connection:
        (study,) = latest(connection)
    of = balance_of(engine)
    (analysed,), delivered = of.analysed.parts, tuple(of.delivered.parts)
    return study.stage, analysed, ", ".join(delivered)


def test_list_and_account_agree_on_a_series_whose_first_analysis_was_superseded() -> None:
    superseded = {"id": "a", "state": "CANCELED", "stage": "infer", "outcome": None}
    again = {"id": "b", "generation": 2, "deliveries": {"pacs": "CONFIRMED"}}
    assert parts(ledger_with(superseded, again, generation=2)) == ("confirmed", "processed", "confirmed")


def test_list_and_account_agree_on_images_of_an_earlier_generation_that_still_wait() -> None:
    first = {"id": "a", "pipeline": FORWARD, "state": "IN PROGRESS", "outcome": "forwarded"}
    later = {"id": "b", "generation": 2, "pipeline": FORWARD, "outcome": "forwarded"}
    engine = ledger_with(
        {**first, "deliveries": {"pacs": "SCHEDULED"}}, {**later, "deliveries": {"pacs": "CONFIRMED"}}, generation=2
    )
    assert parts(engine) == ("delivering", "sent on as they are", "waiting")


def test_list_and_account_agree_on_a_job_that_is_held() -> None:
    held = {"state": "CANCELED", "stage": "infer", "outcome": "held"}
    assert parts(ledger_with(held)) == ("held", "held", "cancelled")


def test_list_and_account_agree_on_a_job_that_was_cancelled_before_it_made_anything() -> None:
    cancelled = {"state": "CANCELED", "stage": "infer", "outcome": None}
    assert parts(ledger_with(cancelled)) == ("cancelled", "cancelled", "cancelled")


def test_list_and_account_agree_on_a_series_one_of_whose_jobs_still_computes() -> None:
    done = {"id": "a", "deliveries": {"pacs": "CONFIRMED"}}
    working = {"id": "b", "pipeline": "denoise", "state": "IN PROGRESS", "stage": "infer", "outcome": None}
    assert parts(ledger_with(done, working)) == ("running", "in work", "")


def test_list_and_account_agree_on_a_series_whose_results_go_nowhere() -> None:
    assert parts(ledger_with({"destinations": []}))[1:] == ("processed", "kept here only")


@pytest.mark.parametrize("outcome", ["ignored", "waiting", "held"])
def test_only_a_series_that_was_routed_counts_among_the_analysed(outcome: str) -> None:
    of = balance_of(ledger_with(outcome=outcome))
    assert list(of.received.parts) == [outcome]
    assert (of.analysed.parts, of.delivered.parts) == ({}, {})


def test_a_pipeline_of_any_name_counts_as_analysis() -> None:
    for name in ("!", "nodule"):  # in order before and after the name of forwarding
        assert parts(ledger_with({"pipeline": name, "deliveries": {"pacs": "STORED"}}))[1] == "processed"


def test_a_cancelled_job_counts_by_its_deliveries_where_it_has_some() -> None:
    cancelled = {"state": "CANCELED", "outcome": "findings", "deliveries": {"pacs": "CONFIRMED"}}
    assert parts(ledger_with(cancelled))[1:] == ("cancelled", "confirmed")


def test_an_ignored_series_hides_no_other_one_and_studies_are_counted_once() -> None:
    engine = ledger_with({"deliveries": {"pacs": "CONFIRMED"}}, outcome="routed")
    with begin_immediate(engine) as connection:
        for uid, outcome in (("1.0", "ignored"), ("1.2", "ignored")):
            of = {**SERIES, "series_instance_uid": uid}
            row = {**of, "first_at": 0.5, "last_at": 2.0, "modality": "CT", "instances": 0, "state": "COMPLETE"}
            connection.execute(sa.insert(tables.series).values(**row, generation=1))
            decision = {"generation": 1, "outcome": outcome, "reason": NO_RULE, "trace": [], "decided_at": 3.0}
            connection.execute(sa.insert(tables.decision).values(**of, **decision))
    of = balance_of(engine)
    assert of.received.total == Count(studies=1, entries=3, instances=1)
    assert of.received.parts == {
        "routed": Count(studies=1, entries=1, instances=1),
        "ignored": Count(studies=0, entries=2, instances=0),
    }
    assert of.analysed.parts == {"processed": Count(studies=1, entries=1, instances=1)}
    assert of.delivered.parts == {"confirmed": Count(studies=1, entries=1, instances=1)}
