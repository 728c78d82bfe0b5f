"""Retention forgets what nobody is owed, and nothing else."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from receivers import Node, associate, receiving, send_dataset
from scanner import begin

from node.jobs.engine import Jobs
from node.ledger.deliveries import schedule_delivery
from node.ledger.engine import begin_immediate, now
from node.ledger.jobs import NewJob
from node.ledger.planned_purges import all_stored_studies
from node.ledger.tables import (
    conflict,
    decision_record,
    delivery,
    event,
    instance,
    job,
    metadata,
    procedure_step,
    series,
    workitem_watch,
)
from node.ledger.workitem_subscriptions import Terms, WorkitemKey, subscribe, unsubscribe
from node.log import StudyLog, about
from node.operate.purge import Retention
from node.operate.purge_plan import PurgePlan, current_plan, describe, purge_plan
from node.operate.retention_rules import DAY_SECONDS, PlannedPurge, RetentionRules

MONTH = 30 * 86400.0


@pytest.fixture
def study(node: Node) -> str:
    """A received study of one complete series."""
    datasets = ct_series()
    association = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
    for dataset in datasets:
        assert send_dataset(association, dataset).Status == 0x0000
    association.release()
    assert len(node.rows(instance)) == len(datasets)
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(series).values(state="COMPLETE", generation=1))
    return str(datasets[0].StudyInstanceUID)


def retention(node: Node) -> Retention:
    return Retention(node.config, node.engine, node.spool)


def plan_of(connection: sa.Connection, rules: RetentionRules, at: float) -> PurgePlan:
    """The plan, which is the same from sums and from whole studies."""
    plan = current_plan(connection, rules, at)
    assert plan == purge_plan(all_stored_studies(connection), rules, at)
    return plan


def schedule(node: Node, study: str) -> str:
    new = NewJob(
        study_instance_uid=study,
        series_instance_uid=node.rows(series)[0].series_instance_uid,
        generation=1,
        pipeline="p",
        rule="r",
        destinations=("pacs",),
        priority=2,
    )
    jobs = Jobs(node.engine)
    with begin_immediate(node.engine) as connection:
        jobs.enqueue(connection, new)
    return new.id


def test_a_study_goes_with_files_folders_and_rows_when_its_time_is_over(node: Node, study: str):
    assert retention(node).step(now()) == []
    keeper = StudyLog(node.spool.logs, node.spool.holds_study)
    logging.getLogger().addHandler(keeper)
    try:
        with about(study):
            logging.getLogger().warning("of a study that goes")
        assert retention(node).step(now() + MONTH) == [study]
    finally:
        logging.getLogger().removeHandler(keeper)
    for folder in ("incoming", "logs"):
        assert not list((node.spool.folder / folder).iterdir())
    for table in metadata.sorted_tables:
        if "study_instance_uid" in table.c and table is not decision_record:
            assert node.rows(table) == [], table.name


def test_logs_without_a_study_go(node: Node, study: str):
    node.spool.logs.mkdir()
    for name in (study, "1.2.3"):
        for end in ("jsonl", "jsonl.1"):
            (node.spool.logs / f"{name}.{end}").write_text("{}\n")
    retention(node).step(now())
    assert {path.name for path in node.spool.logs.iterdir()} == {f"{study}.jsonl", f"{study}.jsonl.1"}


def test_no_study_goes_because_the_clock_was_set_forward(node: Node, study: str, monkeypatch: pytest.MonkeyPatch):
    keeping = retention(node)
    assert keeping.look(now() + MONTH) == []
    boottime = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: boottime(clock) + MONTH / 3)
    assert keeping.look(now() + MONTH) == []  # ten days have passed
    monkeypatch.setattr(time, "clock_gettime", lambda clock: boottime(clock) + MONTH)
    assert keeping.look(now() + MONTH) == [study]


def test_procedure_steps_go_with_their_study_or_when_it_never_came(node: Node, study: str):
    for uid in (study, "1.2.3"):
        begin(node, uid)
    retention(node).step(now())
    assert len(node.rows(procedure_step)) == 2
    retention(node).step(now() + MONTH)
    assert node.rows(procedure_step) == node.rows(event) == []


def test_a_study_of_which_only_conflicts_came_goes_as_well(node: Node, study: str):
    path = node.spool.absolute(node.rows(instance)[0].path)
    other = dcmread(path)
    other.StudyInstanceUID = generate_uid()
    association = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
    assert send_dataset(association, other).Status == 0x0000
    association.release()
    assert len(node.rows(conflict)) == 1
    assert set(retention(node).step(now() + MONTH)) == {study, str(other.StudyInstanceUID)}
    assert node.rows(conflict) == []
    assert not list((node.spool.folder / "incoming").iterdir())


def test_a_study_stays_while_it_is_received_or_work_on_it_is_not_finished(node: Node, study: str):
    schedule(node, study)
    assert retention(node).step(now() + MONTH) == []
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(job).values(state="COMPLETED"))
        connection.execute(sa.update(series).values(state="RECEIVING"))
    assert retention(node).step(now() + MONTH) == []
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(series).values(state="COMPLETE"))
    assert retention(node).step(now() + MONTH) == [study]


def test_results_go_with_their_study(node: Node, study: str):
    job_id = schedule(node, study)
    node.spool.keep_result(job_id, "1.2.3", b"result")
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(job).values(state="CANCELED"))
    assert retention(node).step(now() + MONTH) == [study]
    assert not list((node.spool.folder / "results").iterdir())


def test_an_interrupted_look_is_finished_by_the_next(node: Node, study: str):
    node.spool.purge([node.rows(instance)[0].path])
    assert retention(node).step(now() + MONTH) == [study]
    assert node.rows(event) == []


def test_a_study_that_cannot_be_purged_keeps_no_other(node: Node, study: str, monkeypatch: pytest.MonkeyPatch):
    keeping = retention(node)
    with begin_immediate(node.engine) as connection:
        row = dict(connection.execute(sa.select(series)).mappings().one())
        connection.execute(sa.insert(series).values(**{**row, "study_instance_uid": "0.1", "instances": 0}))
    purge = keeping._purge

    def choosy(uid: str, at: float) -> bool:
        if uid == "0.1":
            raise OSError("cannot be removed")
        return purge(uid, at)

    monkeypatch.setattr(keeping, "_purge", choosy)
    assert keeping.step(now() + MONTH) == [study]


def test_a_forgotten_study_that_is_sent_again_is_received_anew(tmp_path: Path):
    datasets = ct_series()
    with receiving(tmp_path) as node:
        for _ in range(2):
            association = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
            assert [send_dataset(association, d).Status for d in datasets] == [0x0000] * len(datasets)
            association.release()
            assert len(node.rows(instance)) == len(datasets)
            with begin_immediate(node.engine) as connection:
                connection.execute(sa.update(series).values(state="COMPLETE", generation=1))
            assert len(retention(node).step(now() + MONTH)) == 1


def test_the_plan_names_the_time_at_which_a_study_goes_and_what_holds_it_back(node: Node, study: str):
    rules = RetentionRules(node.config)

    def plan(at: float) -> PurgePlan:
        with node.engine.connect() as connection:
            return plan_of(connection, rules, at)

    (planned,) = plan(now()).due
    assert planned.study_instance_uid == study
    assert planned.size == sum(row.size for row in node.rows(instance))
    assert retention(node).step(planned.at - 1.0) == []
    (day,) = plan(now()).days
    assert (day.studies, day.size) == (1, planned.size)
    job_id = schedule(node, study)
    (held,) = plan(now() + MONTH).held
    assert held.held_by == ("1 job not ended",)
    assert retention(node).step(now() + MONTH) == []
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(job).values(stage="deliver", state="IN PROGRESS"))
        schedule_delivery(connection, job_id, "pacs")
        connection.execute(sa.update(series).values(state="RECEIVING"))
    (held,) = plan(now()).held
    assert held.held_by == ("1 series not complete", "1 job not ended, deliveries to pacs pending")
    assert "1 series not complete; 1 job not ended" in describe(plan(now()), rules, 20)
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(job).values(state="COMPLETED", updated_at=now()))
        connection.execute(sa.update(delivery).values(state="CONFIRMED"))
        connection.execute(sa.update(series).values(state="COMPLETE"))
    (planned,) = plan(now()).due
    assert retention(node).step(planned.at - 1.0) == []
    assert retention(node).step(planned.at + 1.0) == [study]
    assert plan(now()) == PurgePlan(days=(), due=(), held=())


def test_a_locked_workitem_is_kept_until_it_is_unlocked_and_at_most_twice_as_long(node: Node, study: str):
    rules = RetentionRules(node.config)
    of = WorkitemKey(uid="2.25.1", study_instance_uid=study, job_id=schedule(node, study))
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(job).values(state="COMPLETED", updated_at=now()))

    def planned(*, is_locked: bool | None = None) -> PlannedPurge:
        with begin_immediate(node.engine) as connection:
            if is_locked is not None:
                subscribe(connection, "RIS", of, Terms(locked=is_locked))
            (purge,) = plan_of(connection, rules, now()).due
        return purge

    usual, locked = planned(), planned(is_locked=True)
    assert locked.at - usual.at == pytest.approx(rules.longest_days * DAY_SECONDS)
    assert locked.why == f"{usual.why}, twice as long by a deletion lock"
    assert retention(node).step(usual.at + 1.0) == []
    assert planned(is_locked=False) == usual
    planned(is_locked=True)
    with begin_immediate(node.engine) as connection:
        unsubscribe(connection, "RIS", of)
    assert planned() == usual
    planned(is_locked=True)
    assert retention(node).step(locked.at + 1.0) == [study]
    assert node.rows(workitem_watch) == []


def test_a_study_that_is_overdue_is_planned_for_today(node: Node, study: str):
    with node.engine.connect() as connection:
        plan = plan_of(connection, RetentionRules(node.config), now() + MONTH)
    assert plan.due[0].at < now() + MONTH
    assert [day.day for day in plan.days] == [datetime.fromtimestamp(now() + MONTH, UTC).astimezone().date()]


def test_the_first_look_comes_soon_after_the_start(node: Node, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("node.operate.purge.FIRST_SECONDS", 0.0)
    looks: list[float] = []
    looked, stop = threading.Event(), threading.Event()
    purging = retention(node)
    monkeypatch.setattr(purging, "look", lambda at: (looks.append(at), looked.set()))
    thread = threading.Thread(target=purging.run, args=(stop,))
    thread.start()
    assert looked.wait(30.0)
    assert not stop.wait(0.3)
    stop.set()
    thread.join()
    assert len(looks) == 1, "the next one an hour later"
