"""A worker process for tests: ``slot_worker.py URL LOG SLOTS PIPELINE...`` executes infer until its input ends.

Each analysis takes a moment, or ``SLOT_SECONDS`` of the environment, at the pace of a node; LOG exists as soon as it
serves and gets a line when one begins and when it ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from node.jobs.engine import Jobs
from node.jobs.pace import Pace
from node.jobs.stage import Stage
from node.ledger import JobStage
from node.ledger.engine import open_ledger
from node.ledger.jobs import Retries, get_job

SECONDS = float(os.environ.get("SLOT_SECONDS", "0.7"))
PACE = Pace() if "SLOT_SECONDS" in os.environ else Pace(poll_seconds=0.1)


def main(url: str, log: Path, slots: int, *pipelines: str) -> None:
    engine = open_ledger(url)
    writing = threading.Lock()

    def note(line: str) -> None:
        with writing, log.open("a") as file:
            file.write(line)

    def infer(job_id: str, _subject: str) -> None:
        with engine.connect() as connection:
            pipeline = get_job(connection, job_id).pipeline
        note(f"begin {pipeline}\n")
        time.sleep(SECONDS)
        note(f"end {pipeline}\n")

    retries = Retries(max_attempts=2, first_seconds=0.2, max_seconds=1.0)
    stage = Stage(name=JobStage.INFER, handler=infer, retries=retries, seconds=60.0, owners=pipelines, slots=slots)
    jobs = Jobs(engine, PACE)
    jobs.serve("worker", [stage])
    note("")
    sys.stdin.read()
    jobs.stop()
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
