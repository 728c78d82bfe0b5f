"""The sender role as a process of its own: an outage and kill -9 in the middle lose nothing and send nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import delivery_jobs as jobs
import psutil
import pytest
import real_peers
from dicom_files import ct_series

from node.jobs.engine import Jobs
from node.ledger.jobs import get_job

IMAGES = 120


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Callable[[jobs.FinishedJob], subprocess.Popen[bytes]]]:
    """Starts ``ainode run --only sender`` on a job's folder."""
    started: list[subprocess.Popen[bytes]] = []

    def start(job: jobs.FinishedJob) -> subprocess.Popen[bytes]:
        configuration = tmp_path / "config.toml"
        lines = [f"[storage]\nfolder = {json.dumps(str(job.folder))}", "[destinations.pacs]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in job.destinations["pacs"].items()]
        configuration.write_text("\n".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "node", "run", "--only", "sender", "--config", str(configuration)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        started.append(subprocess.Popen(command, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def state_of(job: jobs.FinishedJob) -> str:
    with job.engine.connect() as connection:
        return get_job(connection, jobs.JOB).state


def test_an_outage_and_a_killed_sender_end_with_every_instance_in_the_pacs_once(
    tmp_path: Path, sender: Callable[[jobs.FinishedJob], subprocess.Popen[bytes]]
) -> None:
    with real_peers.orthanc(tmp_path) as pacs:
        table = jobs.destination(pacs, first_retry_seconds=0.5, max_retry_seconds=600.0)
        job = jobs.FinishedJob(tmp_path / "node", ct_series(n=IMAGES, size=32), {"pacs": table})
        pacs.kill()
        Jobs(job.engine).cancel(jobs.JOB)
        Jobs(job.engine).retry(jobs.JOB, "deliver")

        first = sender(job)
        wait_for(lambda: (job.status().next_at or 0.0) > time.time() + 60.0)  # the circuit is open
        assert job.status().attempt == 3
        assert "connection refused" in (job.status().error or "")
        pacs.start()
        wait_for(lambda: job.status().stored >= 3)
        killed = psutil.Process(first.pid).children(recursive=True)
        for process in [psutil.Process(first.pid), *killed]:  # the sender and its supervisor, as a power cut would
            process.kill()
        first.wait()
        assert job.status().stored < IMAGES

        sender(job)
        wait_for(lambda: state_of(job) == "COMPLETED")
        assert pacs.instances() == sorted(job.uids)
        new = [c for c in pacs.get("/changes?limit=1000")["Changes"] if c["ChangeType"] == "NewInstance"]
        assert len(new) <= IMAGES + 17  # one in flight at the kill, and sixteen whose answers were not written yet
    assert (job.status().state, job.status().stored) == ("STORED", IMAGES)
    assert {status for status, _ in job.answers().values()} == {0x0000}
