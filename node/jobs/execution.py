"""Execution of attempts: runs the handler of a stage and commits its outcome with the attempts that follow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from node.actor import surviving
from node.errors import IdentityError, NodeError, NotFoundError
from node.jobs.failure import logged_error, shown_message
from node.jobs.ledger_writes import LedgerWrites
from node.jobs.stage import AttemptYielded, Done, Stage
from node.jobs.stage_turns import StageTurns
from node.jobs.time_limit import call_within
from node.ledger import JobStage, transitions
from node.ledger.events import EventKind, record_event
from node.ledger.jobs import Attempt, Job, is_tried, update_job
from node.ledger.states import LEAST_URGENT
from node.log import about
from node.process.idle_time import TIMES_SLOWER
from node.queues.turns import AttemptAbandoned

logger = logging.getLogger(__name__)

SHADOW = "in shadow"
"""Last argument of the workflow of an attempt in shadow."""

Enqueue = Callable[[Connection, Sequence[Attempt]], None]


class AttemptExecution:
    """Executes attempts in the threads that call it, until ``stopping`` is set."""

    def __init__(self, ledger: LedgerWrites, stopping: threading.Event, enqueue: Enqueue) -> None:
        """``enqueue``: puts attempts into their queues, in the transaction that makes them due."""
        self.stages: dict[JobStage, Stage] = {}
        self.turns: dict[JobStage, StageTurns] = {}
        self._ledger = ledger
        self._stopping = stopping
        self._enqueue = enqueue
        self._idle = threading.Condition()
        self._running = 0

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until no attempt runs, at most ``seconds``."""
        with self._idle:
            self._idle.wait_for(lambda: self._running == 0, seconds)

    def workflow(self) -> Callable[..., None]:
        """Return the function DBOS calls, also for workflows of older releases: strings and integers only."""

        def attempt(job_id: str, run: int, stage: str, subject: str, number: int, *pipeline: str) -> None:
            name = pipeline[0] if pipeline else ""  # deliver has none, and older releases gave it to infer only
            this = Attempt(job_id=job_id, run=run, stage=JobStage(stage), subject=subject, number=number, pipeline=name)
            self.execute(replace(this, priority=LEAST_URGENT) if SHADOW in pipeline[1:] else this)

        return attempt

    def execute(self, attempt: Attempt) -> None:
        """Execute an attempt if it is still due."""
        if attempt.owner:
            with self.turns[attempt.stage].of(attempt).turn(attempt.owner):
                self._execute(attempt)
        else:
            self._ledger.commit(lambda connection: self._requeue(connection, attempt))

    def _requeue(self, connection: Connection, attempt: Attempt) -> None:
        """Put an attempt into the queue of its pipeline: it yielded, or an older release enqueued it for its stage."""
        self._enqueue(connection, transitions.renew_attempts(connection, attempt, was_lost=False))

    def _yield(self, connection: Connection, attempt: Attempt, seconds: float) -> None:
        record_event(connection, attempt.job_id, EventKind.ATTEMPT_YIELDED, stage=attempt.stage)
        renewed = transitions.renew_attempts(connection, attempt, was_lost=False)
        self._enqueue(connection, [replace(renewal, delay_seconds=seconds) for renewal in renewed])

    def _begin(self, connection: Connection, attempt: Attempt) -> Job | None:
        """The job to work on. A release before turns in shadow enqueued what is tried among what is sent.

        It also raised the priority of what was tried when a job that needs its result became more urgent.
        """
        if not attempt.in_shadow and attempt.stage != JobStage.DELIVER and is_tried(connection, attempt.job_id):
            update_job(connection, attempt.job_id, priority=LEAST_URGENT)
            self._requeue(connection, attempt)
            return None
        return transitions.begin_attempt(connection, attempt)

    def _execute(self, attempt: Attempt) -> None:
        stage = self.stages[attempt.stage]
        try:
            job = self._ledger.commit(lambda connection: self._begin(connection, attempt))
        except NotFoundError:
            return  # retention was faster
        except Exception as error:  # noqa: BLE001 - the actor's own loop, as below
            with about(job=attempt.job_id):
                self._fail(attempt, stage, error, 0.0)
            return
        if job is not None:
            with about(job.study_instance_uid, series=job.series_instance_uid, job=job.id):
                self._run(attempt, stage)

    def _run(self, attempt: Attempt, stage: Stage) -> None:
        """Run the handler. Any error in it, or while its outcome is written, is a failed attempt."""
        started = time.monotonic()
        with self._idle:
            self._running += 1
        try:
            done = self._handle(attempt, stage) or Done(write=lambda _: None)
            finished = self._finish(attempt, done, time.monotonic() - started)
        except Exception as error:  # the actor's own loop
            if self._stopping.is_set():
                raise AttemptAbandoned from error
            if isinstance(error, AttemptYielded):
                yielded = error
                self._ledger.commit(lambda connection: self._yield(connection, attempt, yielded.seconds))
            else:
                self._fail(attempt, stage, error, time.monotonic() - started)
        else:
            if finished:
                with surviving(f"job {attempt.job_id}: what follows {attempt.stage}"):
                    done.then()
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    @staticmethod
    def _handle(attempt: Attempt, stage: Stage) -> Done | None:
        def handle() -> Done | None:
            return stage.handler(attempt.job_id, attempt.subject)

        if attempt.in_shadow:
            seconds, paused = stage.seconds * TIMES_SLOWER, stage.paused_seconds
            return call_within(seconds, f"the stage {stage.name} in shadow", handle, paused)
        return call_within(stage.seconds, f"the stage {stage.name}", handle)

    def _finish(self, attempt: Attempt, done: Done, seconds: float) -> bool:
        def change(connection: Connection) -> bool:
            due = transitions.finish_attempt(connection, attempt, seconds, done.write)
            self._enqueue(connection, due or [])
            return due is not None

        return self._ledger.commit(change)

    def _fail(self, attempt: Attempt, stage: Stage, error: Exception, seconds: float) -> None:
        text = shown_message(error, attempt.job_id)
        permanent = isinstance(error, NodeError) and error.permanent

        def change(connection: Connection) -> bool:
            if isinstance(error, IdentityError):
                transitions.withhold_attempt(connection, attempt, text, error)
                return True
            news = transitions.is_news(connection, attempt, text)
            due = transitions.fail_attempt(
                connection, attempt, text, seconds, stage.retries, permanent=permanent, failure=error
            )
            self._enqueue(connection, due)
            return news

        level = logging.WARNING if self._ledger.commit(change) else logging.DEBUG
        logger.log(level, "job %s: %s failed: %s", attempt.job_id, attempt.stage, error, exc_info=logged_error(error))
