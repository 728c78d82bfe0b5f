"""How many analyses 1, 2, 4 and 8 devices make: their rate together, as a share of the sum of their rates alone.

``python tests/support/device_throughput.py --seconds 2 --each 10`` starts a worker process for each device, before and
after the jobs are there, on a ledger in PostgreSQL. Analyses only sleep: what is measured is how jobs are given out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import postgres
import sqlalchemy as sa
from new_jobs import new_job

from node.jobs.engine import Jobs
from node.ledger import JobStage
from node.ledger.engine import begin_immediate, open_ledger
from node.ledger.tables import job

WORKER = Path(__file__).with_name("slot_worker.py")


def enqueue(engine: sa.Engine, number: int) -> None:
    """Enqueue as many jobs."""
    jobs = Jobs(engine)
    for index in range(number):
        with begin_immediate(engine) as connection:
            jobs.enqueue(connection, new_job(index))
    jobs.stop()


def analysed(engine: sa.Engine) -> int:
    """How many jobs have left infer."""
    query = sa.select(sa.func.count()).where(job.c.stage != JobStage.INFER)
    with engine.connect() as connection:
        return connection.scalar(query) or 0


def seconds_of(url: str, folder: Path, devices: int, seconds: float, number: int) -> float:
    """Return how long so many devices take for a number of jobs, from when all serve."""
    engine = open_ledger(url)
    environment = os.environ | {"SLOT_SECONDS": f"{seconds:g}"}
    logs = [folder / f"worker-{device}" for device in range(devices)]
    workers = []
    for device, log in enumerate(logs):
        if device == devices // 2:
            enqueue(engine, number)
        command = [sys.executable, str(WORKER), url, str(log), "1", "p"]
        workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
    while not all(log.exists() for log in logs):
        time.sleep(0.05)
    before, begun = analysed(engine), time.monotonic()
    while analysed(engine) < number:
        time.sleep(0.05)
    taken = time.monotonic() - begun
    for worker in workers:
        worker.communicate()
    engine.dispose()
    return taken * number / max(number - before, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of an analysis")
    parser.add_argument("--each", type=int, default=10, help="jobs for each device")
    chosen = parser.parse_args()
    with postgres.cluster() as url, tempfile.TemporaryDirectory() as name:
        alone = 0.0
        for devices in (1, 2, 4, 8):
            folder = Path(name) / str(devices)
            folder.mkdir()
            number = devices * chosen.each
            ledger = postgres.new_database(url, f"devices{devices}")
            rate = number / seconds_of(ledger, folder, devices, chosen.seconds, number)
            alone = alone or rate
            share = rate / (devices * alone)
            print(f"{devices} devices: {rate:.3f} analyses/s, {share:.2f} of the sum", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
