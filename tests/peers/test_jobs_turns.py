"""Turns on a real DBOS: pipelines share the slots of a process, and every process has slots of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from dbos import WorkflowSerializationFormat
from job_node import PACE, RETRIES
from new_jobs import new_job
from timeline import timeline

from node.errors import PipelineError
from node.jobs.engine import Jobs
from node.jobs.stage import Done, Stage
from node.ledger import JobStage
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.job_outcome import schedule_results
from node.ledger.jobs import get_job
from node.ledger.pipeline_failures import failing_pipelines
from node.ledger.tables import job as table
from node.queues.attempt_queues import Waiting
from node.queues.turns import Shares

WORKER = Path(__file__).parents[1] / "support" / "slot_worker.py"
STAT, ROUTINE = 1, 2
SLOW_SECONDS = 1.5


ON_POSTGRESQL = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
NUMBERS = itertools.count(1)


class Device:
    """A handler of infer that records whose turn it was; it works while ``open`` is not set."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.turns: list[str] = []
        self.open = threading.Event()

    def __call__(self, job_id: str, _subject: str) -> None:
        with self._engine.connect() as connection:
            job = get_job(connection, job_id)
        self.turns.append(f"{job.pipeline}{job.priority}")
        assert self.open.wait(60)

    def stage(self, *pipelines: str) -> Stage:
        return Stage(name=JobStage.INFER, handler=self, retries=RETRIES, seconds=60.0, owners=pipelines)


def enqueue(engine: sa.Engine, jobs: Jobs, pipeline: str, priority: int = ROUTINE) -> str:
    new = new_job(next(NUMBERS), priority, pipeline)
    with begin_immediate(engine) as connection:
        assert jobs.enqueue(connection, new)
    return new.id


def stages_of(engine: sa.Engine, job_ids: Sequence[str]) -> Counter[str]:
    """How many of the jobs are in each stage."""
    with engine.connect() as connection:
        return Counter(connection.scalars(sa.select(table.c.stage).where(table.c.id.in_(job_ids))))


def wait_until_analysed(engine: sa.Engine, job_ids: Sequence[str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while waiting := stages_of(engine, job_ids)[JobStage.INFER]:
        assert time.monotonic() < deadline, f"{waiting} of {len(job_ids)} wait"
        time.sleep(0.05)


def wait_until(engine: sa.Engine, job_ids: Sequence[str], stage: JobStage, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while (there := stages_of(engine, job_ids)[stage]) < len(job_ids):
        assert time.monotonic() < deadline, f"{len(job_ids) - there} of {len(job_ids)} wait"
        time.sleep(0.05)


def served(attempts: dict[str, Counter[int]], cost: dict[str, float], number: int, failed: str = "") -> Counter[str]:
    """How many of ``number`` turns each pipeline gets when all of ``attempts`` wait all the time."""
    shares, turns = Shares(), Counter[str]()
    for _ in range(number):
        chosen = shares.next_owner(Waiting(attempts=attempts, failed=failed))
        assert chosen is not None
        turns[chosen[0]] += 1
        shares.charge(chosen[0], cost[chosen[0]], failed=chosen[0] in failed)
    return turns


def test_the_most_urgent_comes_first() -> None:
    waiting = {"a": Counter({ROUTINE: 9}), "b": Counter({ROUTINE: 1, STAT: 1}), "c": Counter({3: 5}), "d": Counter()}
    shares = Shares()
    shares.charge("b", 1000.0, failed=True)
    assert shares.next_owner(Waiting(attempts=waiting, failed="b")) == ("b", STAT)
    assert shares.next_owner(Waiting(attempts={"d": Counter()})) is None


def test_pipelines_share_the_time_and_not_the_number_of_turns() -> None:
    both = {"a": Counter({ROUTINE: 9}), "b": Counter({ROUTINE: 9})}
    assert served(both, {"a": 2.0, "b": 2.0}, 100) == {"a": 50, "b": 50}
    assert served(both, {"a": 1.0, "b": 30.0}, 310) == {"a": 300, "b": 10}


def test_pipelines_whose_last_job_failed_share_a_tenth_of_what_one_gets() -> None:
    cost = dict.fromkeys("abcd", 1.0)
    turns = served({name: Counter({ROUTINE: 9}) for name in "abcd"}, cost, 1100, failed="bcd")
    assert abs(turns["a"] - 1000) <= 1
    assert all(abs(turns[name] - 33) <= 1 for name in "bcd")


def test_a_pipeline_that_did_not_wait_for_long_has_saved_no_time() -> None:
    shares, alone = Shares(), Waiting(attempts={"a": Counter({ROUTINE: 9})})
    for _ in range(100):
        assert shares.next_owner(alone) == ("a", ROUTINE)
        shares.charge("a", 10.0, failed=False)
    both = Waiting(attempts={name: Counter({ROUTINE: 9}) for name in "ab"})
    turns = Counter[str]()
    for _ in range(20):
        chosen = shares.next_owner(both)
        assert chosen is not None
        turns[chosen[0]] += 1
        shares.charge(chosen[0], 10.0, failed=False)
    assert abs(turns["a"] - turns["b"]) <= 1


@postgres.BOTH
def test_a_pipeline_with_many_jobs_shares_the_device_with_one_that_has_few(engine: sa.Engine, jobs: Jobs) -> None:
    device = Device(engine)
    device.open.set()
    waiting = [enqueue(engine, jobs, pipeline) for pipeline in "aaaaaabb"]
    jobs.serve("worker", [device.stage("a", "b")])
    wait_until_analysed(engine, waiting)
    assert sorted(device.turns) == ["a2"] * 6 + ["b2"] * 2
    assert device.turns.index("b2") <= 1
    assert [turn for turn in device.turns[:4] if turn == "b2"] == ["b2", "b2"]


class Encoder:
    """A handler of encode, and of deliver, that records whose turn it was; each attempt of ``slow`` takes a moment."""

    def __init__(self, engine: sa.Engine, slow: str) -> None:
        self._engine = engine
        self._slow = slow
        self.encoded: list[str] = []
        self.delivered: list[str] = []

    def encode(self, job_id: str, _subject: str) -> Done:
        with self._engine.connect() as connection:
            job = get_job(connection, job_id)
        self.encoded.append(job.pipeline)
        time.sleep(SLOW_SECONDS * (job.pipeline == self._slow))
        return Done(write=lambda connection: schedule_results(connection, job_id, dict.fromkeys(job.destinations)))

    def deliver(self, _job_id: str, destination: str) -> None:
        self.delivered.append(destination)
        time.sleep(SLOW_SECONDS * (destination == self._slow))

    def stage(self, name: JobStage, *owners: str) -> Stage:
        handler = self.encode if name == JobStage.ENCODE else self.deliver
        return Stage(name=name, handler=handler, retries=RETRIES, seconds=60.0, owners=owners)


def analysed(engine: sa.Engine, jobs: Jobs, pipelines: str, destinations: str) -> list[str]:
    """Jobs that wait to be encoded, in this order; each is delivered to one of ``destinations``."""
    device = Device(engine)
    device.open.set()
    jobs.serve("worker", [device.stage(*set(pipelines))])
    job_ids = []
    for pipeline, destination in zip(pipelines, destinations, strict=True):
        new = replace(new_job(next(NUMBERS), pipeline=pipeline), destinations=(destination,))
        with begin_immediate(engine) as connection:
            assert jobs.enqueue(connection, new)
        job_ids.append(new.id)
        wait_until(engine, job_ids, JobStage.ENCODE)
    jobs.stop()
    return job_ids


@postgres.BOTH
def test_a_pipeline_with_many_slow_objects_shares_the_encoder_with_one_that_has_few(
    engine: sa.Engine, jobs: Jobs
) -> None:
    """Also with a pipeline that is not configured any more."""
    encoder = Encoder(engine, slow="a")
    job_ids = analysed(engine, jobs, "aaaaaabb", "p" * 8)
    jobs.serve("worker", [encoder.stage(JobStage.ENCODE, "b")])
    wait_until(engine, job_ids, JobStage.DELIVER)
    assert sorted(encoder.encoded) == ["a"] * 6 + ["b"] * 2
    assert encoder.encoded.index("b") <= 1
    assert encoder.encoded[:4].count("b") == 2


@postgres.BOTH
def test_a_destination_with_many_slow_deliveries_shares_the_sender_with_one_that_has_few(
    engine: sa.Engine, jobs: Jobs
) -> None:
    sender = Encoder(engine, slow="x")
    job_ids = analysed(engine, jobs, "a" * 8, "xxxxxxyy")
    jobs.serve("worker", [sender.stage(JobStage.ENCODE, "a")])
    wait_until(engine, job_ids, JobStage.DELIVER)
    jobs.stop()
    jobs.serve("sender", [sender.stage(JobStage.DELIVER, "x", "y")])
    while len(sender.delivered) < len(job_ids):
        time.sleep(0.05)
    assert sorted(sender.delivered) == ["x"] * 6 + ["y"] * 2
    assert sender.delivered.index("y") <= 1
    assert sender.delivered[:4].count("y") == 2


@postgres.BOTH
def test_an_urgent_job_overtakes_the_routine_jobs_of_its_own_pipeline_and_of_others(
    engine: sa.Engine, jobs: Jobs
) -> None:
    device = Device(engine)
    jobs.serve("worker", [device.stage("a", "b")])
    waiting = [enqueue(engine, jobs, "a")]
    while not device.turns:
        time.sleep(0.02)
    waiting += [enqueue(engine, jobs, pipeline) for pipeline in "aabb"]
    time.sleep(3 * PACE.poll_seconds)  # nothing that waits may have been taken meanwhile
    waiting += [enqueue(engine, jobs, pipeline, STAT) for pipeline in "ab"]
    device.open.set()
    wait_until_analysed(engine, waiting)
    assert sorted(device.turns[1:3]) == ["a1", "b1"]


@postgres.BOTH
def test_a_worker_leaves_the_jobs_of_a_pipeline_that_it_lacks(engine: sa.Engine, jobs: Jobs) -> None:
    device = Device(engine)
    device.open.set()
    lacking, own = enqueue(engine, jobs, "other"), enqueue(engine, jobs, "own")
    jobs.serve("worker", [device.stage("own")])
    wait_until_analysed(engine, [own])
    time.sleep(3 * PACE.poll_seconds)
    assert [line.what for line in timeline(engine, lacking)] == ["job scheduled"]
    jobs.stop()
    jobs.serve("worker", [device.stage("own", "other")])  # as after a reload with the pipeline
    wait_until_analysed(engine, [lacking])
    assert device.turns == ["own2", "other2"]


@postgres.BOTH
def test_what_an_older_release_enqueued_for_all_workers_is_executed(engine: sa.Engine, jobs: Jobs) -> None:
    device = Device(engine)
    device.open.set()
    new = new_job(next(NUMBERS), pipeline="own")
    with begin_immediate(engine) as connection:
        [first] = create_job(connection, new)
        options = {
            "workflow_name": "attempt",
            "workflow_id": f"{first.key}/0",
            "queue_name": "gpu",
            "priority": ROUTINE,
            "serialization_type": WorkflowSerializationFormat.PORTABLE,
        }
        jobs._client.enqueue_in_transaction(connection, options, new.id, 0, "infer", "", 0)
    jobs.serve("worker", [device.stage("own")])
    wait_until_analysed(engine, [new.id])
    assert device.turns == ["own2"]
    assert "infer failed" not in [line.what for line in timeline(engine, new.id)]


@postgres.BOTH
def test_a_pipeline_that_fails_again_and_again_gets_one_turn_after_each_pause_until_it_succeeds(
    engine: sa.Engine, jobs: Jobs
) -> None:
    turns: list[str] = []
    repaired = threading.Event()

    def infer(job_id: str, _subject: str) -> None:
        with engine.connect() as connection:
            pipeline = get_job(connection, job_id).pipeline
        turns.append(pipeline)
        if pipeline == "bad" and not repaired.is_set():
            raise PipelineError("its process was killed by SIGSEGV")

    good, bad = Device(engine).stage("good", "bad"), [enqueue(engine, jobs, "bad") for _ in range(6)]
    jobs.serve("worker", [replace(good, handler=infer, slots=4)])
    while "bad" not in paused(engine):
        time.sleep(0.02)
    tried = turns.count("bad")
    wait_until_analysed(engine, [enqueue(engine, jobs, "good") for _ in range(6)])
    assert turns.count("bad") <= tried + 3  # those that had begun, with four slots
    tried = turns.count("bad")
    time.sleep(1.0)
    assert "bad" in paused(engine)
    assert turns.count("bad") <= tried + 1
    repaired.set()
    wait_until_analysed(engine, bad)
    assert paused(engine) == []


def paused(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(failing_pipelines(connection))


class SlotWorker:
    """A process with slots of its own that notes when it begins and ends each analysis."""

    def __init__(self, engine: sa.Engine, folder: Path, name: str, slots: int, *pipelines: str) -> None:
        self.slots = slots
        self._log = folder / name
        url = engine.url.render_as_string(hide_password=False)
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), url, str(self._log), str(slots), *pipelines], stdin=subprocess.PIPE
        )

    def wait_until_ready(self) -> None:
        while not self._log.exists():
            assert self._process.poll() is None
            time.sleep(0.05)

    def lines(self) -> list[tuple[str, str]]:
        """What happened in this process: begin or end, and the pipeline."""
        words = (line.split() for line in self._log.read_text().splitlines())
        return [(what, pipeline) for what, pipeline in words]

    def most_at_once(self) -> int:
        running = itertools.accumulate(1 if what == "begin" else -1 for what, _ in self.lines())
        return max(running, default=0)

    def end(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@ON_POSTGRESQL
@pytest.mark.parametrize("slots", [(2,), (1, 3), (3, 1), (2, 1, 4, 1)])
def test_workers_started_in_any_order_keep_their_own_slots(
    engine: sa.Engine, jobs: Jobs, tmp_path: Path, slots: tuple[int, ...]
) -> None:
    workers = []
    for number, of_one in enumerate(slots):
        workers.append(SlotWorker(engine, tmp_path, f"worker {number}", of_one, "p"))
        workers[-1].wait_until_ready()
    job_ids = [enqueue(engine, jobs, "p") for _ in range(8 * sum(slots))]
    wait_until_analysed(engine, job_ids, 120.0)
    for worker in workers:
        worker.end()
    assert [worker.most_at_once() for worker in workers] == list(slots)


@ON_POSTGRESQL
def test_each_of_two_workers_runs_its_own_pipelines_and_fails_nothing(
    engine: sa.Engine, jobs: Jobs, tmp_path: Path
) -> None:
    first = SlotWorker(engine, tmp_path, "one", 1, "shared", "first")
    other = SlotWorker(engine, tmp_path, "other", 2, "shared", "second")
    job_ids = [enqueue(engine, jobs, pipeline) for pipeline in ["shared", "first", "second"] * 6]
    wait_until_analysed(engine, job_ids, 120.0)
    for worker in (first, other):
        worker.end()
    assert {pipeline for _, pipeline in first.lines()} <= {"shared", "first"}
    assert {pipeline for _, pipeline in other.lines()} <= {"shared", "second"}
    happened = {line.what for job_id in job_ids for line in timeline(engine, job_id)}
    assert "infer failed" not in happened
    assert "recovered" not in happened
