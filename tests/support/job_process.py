"""Worker processes for tests of jobs, that kill themselves at a chosen point or are killed from outside.

They are forked from a server that has imported the node already, which spares seconds for each.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from job_node import JobNode
from notes import NOTES

from node.config import Config
from node.inference import model_processes
from node.jobs.ledger_writes import LedgerWrites
from node.ledger import transitions
from node.ledger.jobs import Attempt
from node.spool import Spool

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["node.inference.infer_stage", "node.inference.encode_stage", "node.jobs.engine", "dicom_files"]
)


class WorkerProcess:
    """Serves all stages. ``die``: ``"before STAGE commit"``, ``"in ..."``, ``"after ..."`` or ``"between results"``."""

    def __init__(self, config: Config, die: str = "") -> None:
        self._process: Any = _CONTEXT.Process(target=_serve, args=(config, die, NOTES))
        self._process.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def wait_until_killed(self, seconds: float = 240.0) -> None:
        self._process.join(seconds)
        assert self._process.exitcode == -signal.SIGKILL

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(config: Config, die: str, notes: Path) -> None:
    model_processes._cache = lambda _definition: notes
    _arm(die)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    node = JobNode(config)
    node.jobs.serve("worker", node.stages())
    stop.wait()
    node.jobs.stop()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(die: str) -> None:
    """Patch the step after which, before which or within which this process dies."""
    if die == "between results":
        keep = Spool.keep_result

        def keep_and_die(*arguments: Any) -> None:
            keep(*arguments)
            _die()

        Spool.keep_result = keep_and_die  # type: ignore[method-assign, assignment]
    elif die:
        _arm_commit(*die.split()[:2])


def _arm_commit(when: str, stage: str) -> None:
    finish, commit = transitions.finish_attempt, LedgerWrites.commit
    reached = threading.Event()

    def dying_finish(connection: sa.Connection, attempt: Attempt, *rest: Any) -> Any:
        here = attempt.stage == stage
        if here and when == "before":
            _die()
        due = finish(connection, attempt, *rest)
        if here and when == "in":
            _die()
        if here:
            reached.set()
        return due

    def dying_commit(self: LedgerWrites, change: Any) -> Any:
        result = commit(self, change)
        if reached.is_set():
            _die()
        return result

    LedgerWrites.commit = dying_commit  # type: ignore[method-assign]
    transitions.finish_attempt = dying_finish
