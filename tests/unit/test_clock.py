"""The clock is set back by a day: nobody waits for a moment to come again."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
from dicom_files import ct_series
from job_node import PACE, JobNode, config_of
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import associate, configuration, receiving, send_dataset, until
from scanner import RULE
from timeline import timeline

from node.config import FORWARD, parse
from node.errors import DeliveryError
from node.jobs.engine import Jobs
from node.jobs.stage import Stage
from node.ledger import JobStage, commitments, deliveries
from node.ledger import pending_deliveries as owed
from node.ledger.delivery_proof import record_query_result, record_request
from node.ledger.engine import begin_immediate, now, open_ledger
from node.ledger.jobs import Job, Retries, get_job, source_paths
from node.ledger.members import Member, renew_beat
from node.ledger.tables import association, commitment, delivery_instance, job, metadata, series
from node.membership import Membership, new_member
from node.routing.router import Router

DAY = 86400.0


def set_back(engine: sa.Engine, seconds: float) -> None:
    """What the ledger looks like when the clock is set back: all that it knows happened so much later."""
    with begin_immediate(engine) as connection:
        for table in metadata.sorted_tables:
            later = {c: c + seconds for c in table.columns if c.name.endswith("_at") or c.name == "at"}
            if later:
                connection.execute(sa.update(table).values(later))
        columns = ("created_at", "updated_at", "delay_until_epoch_ms")
        moved = ", ".join(f"{column} = {column} + {int(seconds * 1000)}" for column in columns)
        connection.execute(sa.text(f"UPDATE workflow_status SET {moved}"))  # noqa: S608 - our own words


def test_a_series_that_arrives_when_the_clock_is_set_back_is_complete_after_its_quiet_period(tmp_path: Path) -> None:
    with receiving(tmp_path) as node:
        sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
        for image in ct_series(3, 16):
            assert send_dataset(sender, image).Status == 0x0000
        sender.release()
        until(lambda: all(row.closed_at for row in node.rows(association)))
        jobs = Jobs(node.engine)
        router = Router(parse(configuration(node.spool.folder, node.port) + RULE), node.engine, node.spool, jobs)
        set_back(node.engine, DAY)
        assert router.step(now()) == 0
        assert router.step(now() + 61.0) == 1
        (routed,) = node.rows(job)
        with node.engine.connect() as connection:
            assert len(source_paths(connection, get_job(connection, routed.id))) == 3


def failed_delivery(folder: Path, delay: float) -> tuple[JobNode, Job]:
    """A job whose delivery is tried again after ``delay`` seconds."""
    node = JobNode(config_of(folder))

    def refuse(_job_id: str, _destination: str) -> None:
        raise DeliveryError("busy")

    retries = Retries(max_attempts=None, first_seconds=delay, max_seconds=delay)
    job_id = node.enqueue(pipeline=FORWARD)
    node.jobs.serve("sender", [Stage(name=JobStage.DELIVER, handler=refuse, retries=retries, seconds=60.0)])
    try:
        return node, node.wait(job_id, lambda _: bool(events(node, "deliver failed")))
    finally:
        node.jobs.stop()


def events(node: JobNode, what: str) -> int:
    return sum(line.what == what for line in timeline(node.engine))


def test_a_retry_keeps_its_delay_unless_the_clock_was_set_back(tmp_path: Path) -> None:
    node, job = failed_delivery(tmp_path, 3600.0)
    node.jobs.serve("sender", node.stages()[-1:])
    try:
        time.sleep(3 * PACE.beat_seconds)
        assert events(node, "deliver started") == 1
        set_back(node.engine, DAY)
        assert node.wait(job.id).state == "COMPLETED"
    finally:
        node.jobs.stop()


def test_proof_that_was_asked_for_tomorrow_is_asked_for_again(tmp_path: Path) -> None:
    node, job = failed_delivery(tmp_path, 3600.0)
    with begin_immediate(node.engine) as connection:
        claim = deliveries.begin_delivery(connection, job.id, "pacs")
        assert claim is not None
        uids = [instance.sop_instance_uid for instance in owed.instances_to_store(connection, job.id, "pacs")]
        for uid in uids:
            deliveries.record_statuses(connection, claim, [deliveries.ObjectStatus(uid, 0x0000)])
        record_request(connection, job.id, "pacs", uids, "1.2")
    asked_before = now() - 600.0
    for late in (False, True):
        with begin_immediate(node.engine) as connection:
            assert owed.is_unanswered(connection, job.id, "pacs", asked_before) == late
            assert len(owed.instances_to_confirm(connection, job.id, "pacs", asked_before)) == late * len(uids)
            record_query_result(connection, claim, [], uids, asked_before)
            statuses = set(connection.scalars(sa.select(delivery_instance.c.status)))
        assert statuses == ({None} if late else {0x0000})
        set_back(node.engine, DAY)
        claim = replace(claim, since=claim.since + DAY)


def test_a_commitment_report_that_is_due_tomorrow_is_sent_today(tmp_path: Path) -> None:
    engine = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    named = [commitments.Named(sop_instance_uid="1.3", sop_class_uid="1.4", failure=None)]
    with begin_immediate(engine) as connection:
        commitments.record_transaction(
            connection,
            calling_ae="CT",
            transaction_uid="1.2",
            association_id="a",
            equipment="x",
            named=named,
            next_at=now() + 30.0,
        )
        assert commitments.due_transactions(connection, now()) == []
        connection.execute(sa.update(commitment).values(next_at=now() + DAY, updated_at=now() + DAY - 30.0))
        assert [t.transaction_uid for t in commitments.due_transactions(connection, now())] == ["1.2"]
    engine.dispose()


def test_an_executor_of_another_machine_that_last_beat_tomorrow_is_dead_when_it_beats_no_more(tmp_path: Path) -> None:
    engine = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    mine = Membership(engine, new_member("worker"), dead_seconds=0.4)
    with begin_immediate(engine) as connection:
        renew_beat(connection, Member(id="silent", role="worker", host="elsewhere", pid=1), now() + DAY)
    assert mine.beat() == {mine.id, "silent"}  # it may beat again in a moment
    for _ in range(6):
        time.sleep(0.1)
        alive = mine.beat()
    assert alive == {mine.id}
    engine.dispose()


def test_images_of_a_receiver_whose_clock_is_ahead_are_input_of_the_job_that_they_began(tmp_path: Path) -> None:
    node = JobNode(config_of(tmp_path))
    study, uid = node.receive()
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.text("UPDATE instance SET received_at = received_at + 30"))
        row = {"modality": "CT", "instances": 4, "first_at": now() + 30, "last_at": now() + 30}
        key = {"study_instance_uid": study, "series_instance_uid": uid}
        connection.execute(sa.insert(series).values(**key, **row, state="COMPLETE", generation=1))
    job = node.job(node.enqueue_for(study, uid, destinations=(), pipeline="scripted"))
    with node.engine.connect() as connection:
        assert len(source_paths(connection, job)) == 4
