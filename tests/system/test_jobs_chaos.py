"""Workers that are killed, stopped or presumed dead at every durable step, on SQLite and on PostgreSQL."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
from job_node import JobNode, config_of
from job_process import WorkerProcess
from process_marks import alive

pytestmark = pytest.mark.rotating

Start = Callable[..., WorkerProcess]
Open = Callable[..., JobNode]


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Empty for SQLite; the test's parameter says which."""
    if request.param == "sqlite":
        return ""
    return postgres.new_database(request.getfixturevalue("postgres_server"), tmp_path.name.lower())


EVERY_STEP = (
    "in infer commit",
    "after infer commit",
    "between results",
    "in encode commit",
    "after encode commit",
    "in deliver commit",
    "after deliver commit",
)
IN_COMMITS = ("in infer commit", "in encode commit")


@pytest.fixture
def open_node(tmp_path: Path) -> Iterator[Open]:
    """Opens a node in this process, which serves nothing."""
    made: list[JobNode] = []

    def open_one(url: str = "", **options: Any) -> JobNode:
        made.append(JobNode(config_of(tmp_path, url, **options)))
        return made[-1]

    yield open_one
    for node in made:
        node.engine.dispose()


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[WorkerProcess] = []

    def begin(node: JobNode, die: str = "") -> WorkerProcess:
        made.append(WorkerProcess(node.config, die))
        return made[-1]

    yield begin
    for process in made:
        process.kill()


@pytest.mark.parametrize(
    ("ledger_url", "steps"), [("sqlite", EVERY_STEP), ("postgresql", IN_COMMITS)], indirect=["ledger_url"]
)
def test_worker_killed_at_durable_steps_loses_nothing_and_repeats_nothing(
    ledger_url: str, steps: tuple[str, ...], notes: Path, open_node: Open, start: Start
) -> None:
    log = notes / "log"
    options = {"does": "die after rename", "once": str(notes / "once"), "log": str(log)}
    node = open_node(ledger_url, **options)
    job_id = node.enqueue()
    for die in steps:
        start(node, die).wait_until_killed()
    start(node)
    job = node.wait(job_id)
    assert (job.state, job.outcome, job.reason) == ("COMPLETED", "findings", None)
    files = {path.name for path in (node.folder / "results" / job_id).iterdir()}
    rows = node.results(job_id)
    assert {f"{row.sop_instance_uid}.dcm" for row in rows} == files
    assert len(rows) == 2  # SEG and SR
    assert node.delivered() == {f"pacs {row.sop_instance_uid}": 1 for row in rows}
    told = [what for what, _ in node.events(job_id)]
    for once in ("infer finished", "encode finished", "deliver finished", "job completed", "outcome"):
        assert told.count(once) == 1, told
    assert told.count("infer failed") == 1  # the child that died after its rename; a dead worker fails no attempt
    assert not node.spool.work(job_id).exists()
    assert not [pid for pid in log.read_text().split()[:-1] if alive(pid)]


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_a_kill_between_two_pipelines_of_a_chain_loses_none_of_them(
    ledger_url: str, tmp_path: Path, open_node: Open, start: Start
) -> None:
    config = config_of(tmp_path, pipelines={"organ": {}, "lesion": {"does": "count in result", "of": "organ"}})
    config.pipelines["lesion"] = config.pipelines["lesion"].model_copy(update={"after": "organ"})
    node = open_node(ledger_url)
    node.config = config
    study, series = node.receive()
    organ, lesion = (
        node.enqueue_for(study, series, destinations=("pacs",), pipeline=name, after=after)
        for name, after in (("organ", ""), ("lesion", "organ"))
    )
    start(node, "after encode commit").wait_until_killed()
    start(node)
    assert [(node.wait(job_id).state, node.job(job_id).outcome) for job_id in (organ, lesion)] == [
        ("COMPLETED", "findings"),
        ("COMPLETED", "measured"),
    ]
    for job_id in (organ, lesion):
        told = [what for what, _ in node.events(job_id)]
        assert (told.count("infer finished"), told.count("outcome")) == (1, 1), told
    assert set(node.delivered().values()) == {1}


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_two_workers_share_the_jobs_and_a_killed_one_is_replaced_by_the_other(
    ledger_url: str, tmp_path: Path, notes: Path, open_node: Open, start: Start
) -> None:
    log = notes / "log"
    node = open_node(ledger_url, does="sleep", seconds=0.5, log=str(log))
    first = start(node)
    start(node)
    ids = [node.enqueue() for _ in range(6)]
    while not log.exists() or len(set(log.read_text().split())) < 2:  # until both have executed a job
        ids.append(node.enqueue())
        node.wait(ids[-1])
    first.kill()
    ids += [node.enqueue() for _ in range(2)]
    for job_id in ids:
        assert node.wait(job_id).state == "COMPLETED"
    assert set(node.delivered().values()) == {1}
    assert len(node.delivered()) == 2 * len(ids)


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_worker_presumed_dead_that_comes_back_changes_nothing(
    ledger_url: str, tmp_path: Path, notes: Path, open_node: Open, start: Start
) -> None:
    log = notes / "log"
    node = open_node(ledger_url, does="sleep", seconds=1.5, log=str(log))
    frozen = start(node)
    job_id = node.enqueue()
    _until(log.exists)
    frozen.signal(signal.SIGSTOP)
    start(node)
    assert node.wait(job_id).state == "COMPLETED"
    frozen.signal(signal.SIGCONT)
    time.sleep(2.0)
    told = [what for what, _ in node.events(job_id)]
    assert told.count("infer finished") == told.count("job completed") == 1
    assert told.count("infer started") >= 2
    assert set(node.delivered().values()) == {1}
    assert len(node.results(job_id)) == 2


def test_stopped_worker_leaves_its_job_to_the_next_without_a_failed_attempt(
    tmp_path: Path, notes: Path, open_node: Open, start: Start
) -> None:
    log = notes / "log"
    node = open_node(does="hang", seconds=600, once=str(notes / "once"), log=str(log))
    stopping = start(node)
    job_id = node.enqueue()
    _until(lambda: log.exists() and bool(log.read_text()))
    stopping.signal(signal.SIGTERM)
    _until(lambda: not alive(stopping.pid))
    assert not alive(log.read_text().strip())
    start(node)
    assert node.wait(job_id).state == "COMPLETED"
    assert "infer failed" not in [what for what, _ in node.events(job_id)]


def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
