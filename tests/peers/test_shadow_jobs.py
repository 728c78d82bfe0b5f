"""Jobs in shadow on a real DBOS: they have slots of their own, and no destination gets anything."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import postgres
import psutil
import pytest
from job_node import JobNode, config_of
from job_pipelines import WAITED_FOR

from node.inference.tested_version import options_digest
from node.ledger.acceptances import (
    PipelineVersion,
    approve_acceptance,
    record_acceptance,
    unaccepted_versions,
    withdraw_acceptance,
)
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Attempt, update_job
from node.ledger.states import ShadowCause


def started(node: JobNode, job_id: str) -> int:
    return [what for what, _ in node.events(job_id)].count("infer started")


def waited_for() -> list[psutil.Process]:
    """The process for which the candidate waits, once there is one."""
    processes = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            processes += [process] if process.name() == WAITED_FOR else []
    return processes


def paused() -> int:
    """How many processes that this one has started are stopped."""
    number = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            number += process.status() == psutil.STATUS_STOPPED
    return number


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_a_candidate_pauses_while_the_champion_computes_and_goes_on_afterwards(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
):
    url = ""
    if where == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_server"), tmp_path.name.lower())
    pipelines = {"champion": {"does": "findings"}, "candidate": {"does": "wait for a process"}}
    with JobNode(config_of(tmp_path, url, pipelines=pipelines, trust_group="")).working() as node:
        study, series = node.receive()
        tried = node.enqueue_for(study, series, destinations=("pacs",), pipeline="candidate", shadow=ShadowCause.TRIAL)
        assert node.job(tried).priority == 4
        node.wait(tried, lambda _job: bool(waited_for()), seconds=300.0)
        [computing] = waited_for()
        assert computing.nice() > psutil.Process().nice()
        champion = node.enqueue(pipeline="champion")
        node.wait(champion, lambda _job: computing.status() == psutil.STATUS_STOPPED)
        assert node.wait(champion).outcome == "findings"
        assert node.job(tried).state == "IN PROGRESS"
        computing.kill()
        kept = node.wait(tried, seconds=300.0)
        assert (kept.outcome, kept.shadow, kept.attempt) == ("findings", "trial", 0)
        assert started(node, tried) == 1
        assert not paused()
        assert len(node.results(tried)) == 2
        delivered = {uid for line in node.delivered() for uid in line.split()[1:]}
        assert delivered.isdisjoint(result.sop_instance_uid for result in node.results(tried))
        assert ("kept in shadow", "sent to no destination (trial)") in node.events(tried)


def test_what_an_older_release_enqueued_among_what_is_sent_takes_no_slot_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pipelines = {"champion": {"does": "findings"}, "candidate": {"does": "sleep", "seconds": 600.0}}
    node = JobNode(config_of(tmp_path, pipelines=pipelines, trust_group=""))
    study, series = node.receive()
    with monkeypatch.context() as older:
        older.setattr(Attempt, "in_shadow", property(lambda _: False))
        tried = node.enqueue_for(study, series, destinations=("pacs",), pipeline="candidate", shadow=ShadowCause.TRIAL)
    with begin_immediate(node.engine) as connection:  # as if a job that needs its result had been raised
        update_job(connection, tried, priority=1)
    with node.working():
        node.wait(tried, lambda _job: started(node, tried) == 1)
        assert node.job(tried).priority == 4
        assert node.wait(node.enqueue(pipeline="champion")).outcome == "findings"
        assert (node.job(tried).state, node.job(tried).attempt) == ("IN PROGRESS", 0)


def test_a_worker_that_ends_does_not_wait_for_a_job_in_shadow(tmp_path: Path):
    pipelines = {"candidate": {"does": "sleep", "seconds": 600.0}}
    node = JobNode(config_of(tmp_path, pipelines=pipelines, trust_group=""))
    study, series = node.receive()
    with node.working():
        tried = node.enqueue_for(study, series, destinations=("pacs",), pipeline="candidate", shadow=ShadowCause.TRIAL)
        node.wait(tried, lambda _job: started(node, tried) == 1)
        node.jobs.finish(threading.Event())
        assert (node.job(tried).state, node.job(tried).attempt) == ("SCHEDULED", 0)
        assert "infer yielded" in [what for what, _ in node.events(tried)]


def accept(node: JobNode, pipeline: str, version: str = "1.2") -> str:
    """Approve a report on this version with the options that are configured."""
    options = options_digest(pipeline, node.config.pipelines[pipeline])
    of = PipelineVersion(version=version, weights=None, options=options)
    with begin_immediate(node.engine) as connection:
        report = record_acceptance(connection, pipeline, of, {}, configuration="c", data="d", who="otto")
        return approve_acceptance(connection, report.id, who="otto", reason="tested").id


def test_only_accepted_versions_send_results_where_acceptance_is_required(tmp_path: Path):
    config = config_of(tmp_path, pipelines={"a": {}, "b": {"does": "unsuitable"}, "c": {"does": "raise"}})
    required = {name: table.model_copy(update={"require_acceptance": True}) for name, table in config.pipelines.items()}
    with JobNode(config.model_copy(update={"pipelines": required})).working() as node:

        def shadows() -> list[str | None]:
            jobs = [node.enqueue(pipeline=name) for name in required]
            return [node.wait(job_id).shadow for job_id in jobs]

        first = node.enqueue(pipeline="a")
        assert node.wait(first).shadow == ShadowCause.NOT_ACCEPTED
        why = "no approved acceptance report of pipeline a on version 1.2 with weights none and these options"
        [kept] = [text for what, text in node.events(first) if what == "kept in shadow"]
        assert kept == f"sent to no destination (not accepted): {why}"
        assert not node.delivered()
        accept(node, "a", version="1.1")
        assert shadows() == [ShadowCause.NOT_ACCEPTED] * 3
        with node.engine.connect() as connection:
            assert [(row.pipeline, row.version) for row in unaccepted_versions(connection, 0.0)] == [("a", "1.2")]
        reports = [accept(node, name) for name in required]
        assert shadows() == [None] * 3
        assert len(node.delivered()) == 4  # a segmentation and three reports
        node.jobs.retry(first)
        assert node.wait(first, lambda job: job.run == 1 and job.state == "COMPLETED").shadow is None
        with begin_immediate(node.engine) as connection:
            assert unaccepted_versions(connection, 0.0) == []
            withdraw_acceptance(connection, reports[0], reason="new scanner")
        assert node.wait(node.enqueue(pipeline="a")).shadow == ShadowCause.NOT_ACCEPTED
