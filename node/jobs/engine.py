"""Durable execution: attempts of stages as DBOS workflows, in the same database as the ledger.

One attempt is one workflow on the queue of its pipeline or destination (``node.queues``). Its body asks the
ledger whether it is still due, runs the stage's handler and commits the transition together with the workflows that
follow from it. A workflow that is run again after a crash therefore either finds its transition made, or makes it:
nothing is lost and nothing counts twice. A retry is a new workflow with a persisted delay. Recovery only puts workflows
back into their queues.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from dbos import DBOS, DBOSClient, WorkflowSerializationFormat
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from node.actor import surviving
from node.jobs import delays
from node.jobs.execution import SHADOW, AttemptExecution
from node.jobs.ledger_writes import LedgerWrites
from node.jobs.pace import Pace
from node.jobs.stage import Stage
from node.jobs.stage_turns import StageTurns
from node.jobs.takeover import take_over_dead
from node.ledger import JobStage, job_priority, transitions
from node.ledger import retry_transitions as reopening
from node.ledger.clock import clock_of
from node.ledger.clock_steps import AHEAD_SECONDS
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.jobs import Attempt, NewJob
from node.ledger.leadership import Leadership
from node.ledger.pending_attempts import delivered_jobs, due_attempts
from node.log import about
from node.membership import Membership, new_member
from node.queues import attempt_queues
from node.queues.local_queue import LocalQueue, end_delays_by_ledger, pause_all
from node.reasons import ReasonCode, reason

logger = logging.getLogger(__name__)

_APPLICATION = "ainode"
_VERSION = "1"
"""Never changes: what an older release enqueued must be executed by a newer one. Stage names change instead."""
_WORKFLOW = "attempt"
_KEPT = timedelta(days=7)
"""How long workflows are kept after their end; the timeline of a job is in the ledger."""
_MAX_DEATHS = 5
"""A process that died this often in one attempt makes it a failed one."""
_BROKEN = {
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": f"the process died {_MAX_DEATHS + 1} times in this attempt",
    "ERROR": "the attempt ended without an outcome; the log says why",
}
"""Ends of a workflow that count as a failed attempt, in words."""
_UNLIMITED = 1 << 20
"""Attempts at once from the queue of DBOS itself, which has no limit for it either."""
_FINISH_SECONDS = 1 << 20
"""The process that requests the shutdown limits its duration, so DBOS does not."""


class Jobs:
    """The jobs of one ledger. Any process may enqueue, cancel and retry; one that serves executes stages as well.

    At most one ``Jobs`` of a process may serve at a time: DBOS is a singleton.
    """

    def __init__(self, engine: Engine, pace: Pace | None = None) -> None:
        dbos_logger = logging.getLogger("dbos")
        dbos_logger.setLevel(logging.ERROR)
        if not dbos_logger.handlers:
            dbos_logger.addHandler(logging.NullHandler())  # else DBOS writes to the console past our log
        self._engine = engine
        self._pace = pace or Pace()
        DBOS.migrate(engine.url.render_as_string(hide_password=False))
        self._client = DBOSClient(system_database_engine=engine, application_name=_APPLICATION)
        self._stopping = threading.Event()
        self._execution = AttemptExecution(LedgerWrites(engine, self._stopping), self._stopping, self._enqueue)
        self._threads: list[threading.Thread] = []
        """Those that end with ``stop``; empty while this process serves nothing."""
        self._membership: Membership | None = None

    def enqueue(self, connection: Connection, job: NewJob) -> bool:
        """Schedule a job inside the caller's transaction; ``False`` when it is there already."""
        due = create_job(connection, job)
        self._enqueue(connection, due or [])
        return due is not None

    def cancel(self, job_id: str, operator: str = "") -> None:
        """Stop a job; a running pipeline is killed. ``operator``: a user of the dashboard.

        Raises ``NotFoundError``, ``NodeError`` when it has ended.
        """
        with begin_immediate(self._engine) as connection:
            why = reason(ReasonCode.CANCELLED, operator=operator)
            self._enqueue(connection, transitions.cancel_job(connection, job_id, why))

    def retry(self, job_id: str, stage: str | None = None) -> None:
        """Retry a job; see ``node.ledger.retry_transitions.retry_job``."""
        with begin_immediate(self._engine) as connection:
            self.retry_within(connection, job_id, stage)

    def retry_within(self, connection: Connection, job_id: str, stage: str | None = None) -> None:
        """``retry`` inside the caller's transaction."""
        self._enqueue(connection, reopening.retry_job(connection, job_id, stage))

    def change_priority(self, job_id: str, priority: str, operator: str = "") -> None:
        """Change when a job gets its turn; see ``node.ledger.job_priority.change_priority``."""
        with begin_immediate(self._engine) as connection:
            changed = job_priority.change_priority(connection, job_id, priority, operator)
            attempt_queues.change_priority(connection, changed, priority)

    def send_again(self, job_id: str, destination: str, lost: Sequence[str]) -> None:
        """Re-send objects that a destination has lost; see ``node.ledger.retry_transitions.send_again``."""
        with begin_immediate(self._engine) as connection:
            self._enqueue(connection, reopening.send_again(connection, job_id, destination, lost))

    def retract(self, job_id: str, note: dict[str, object], reason: str, machine: str, *, copies: int) -> None:
        """Send a rejection note after what was delivered; see ``node.ledger.retry_transitions.retract_job``."""
        with begin_immediate(self._engine) as connection:
            self._enqueue(connection, reopening.retract_job(connection, job_id, note, reason, machine, copies=copies))

    def make_due(self, destination: str) -> None:
        """Make every attempt that waits to deliver to ``destination`` due now."""
        delays.make_due(self._client, destination)

    def make_stranded_due(self) -> None:
        """Make every retry due now whose delay began in the future: the clock was set back since."""
        delays.make_stranded_due(self._client, clock_of(self._engine) + AHEAD_SECONDS)

    def serve(self, role: str, stages: Sequence[Stage], membership: Membership | None = None) -> None:
        """Execute ``stages`` in this process until ``stop``, as the member that it is or else becomes for that time."""
        self._execution.stages = {stage.name: stage for stage in stages}
        self._stopping.clear()
        if membership is None:
            pace = self._pace
            membership = Membership(self._engine, new_member(role), pace.beat_seconds, pace.dead_after_seconds)
            membership.begin()
        self._membership = membership
        for stage in stages:
            stage.begin()
        end_delays_by_ledger()
        DBOS(
            config={
                "name": _APPLICATION,
                "system_database_url": self._engine.url.render_as_string(hide_password=False),
                "system_database_engine": self._engine,
                "application_version": _VERSION,
                "executor_id": membership.id,
                "log_level": "ERROR",
            }
        )
        DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=_MAX_DEATHS)(self._execution.workflow())
        DBOS.listen_queues([])  # to none of those that are rows of the database
        LocalQueue(attempt_queues.DBOS_QUEUE, self._pace.old_poll_seconds, _UNLIMITED)  # DBOS itself asks every second
        shared = [self._listen(stage, membership) for stage in stages]
        DBOS.launch()
        self._begin("jobs-watch", lambda: self._watch_over(shared, membership))
        logger.info("%s executes %s", membership.id, ", ".join(self._execution.stages))

    def stop(self, seconds: float = 10.0) -> None:
        """Take no more work, interrupt what runs, wait up to ``seconds`` for it; the rest is left to be recovered."""
        forced = threading.Event()
        forced.set()
        self.finish(forced, seconds)

    def finish(self, forced: threading.Event, seconds: float = 10.0) -> None:
        """Take no more work and let what runs end; as ``stop`` from the moment when ``forced`` is set."""
        if not self._threads or self._membership is None:
            return
        # It stops looking into the queues, waits for what runs, then closes; the process beats meanwhile.
        ending = threading.Thread(
            target=DBOS.destroy,
            kwargs={"destroy_registry": True, "workflow_completion_timeout_sec": _FINISH_SECONDS},
            daemon=True,
        )
        if not forced.is_set():
            ending.start()
            while ending.is_alive() and not forced.wait(0.2):
                self._withdraw_shadow()
        self._stopping.set()
        for stage in self._execution.stages.values():
            stage.interrupt()
        self._execution.wait_until_idle(seconds)
        for thread in self._threads:
            thread.join()
        if ending.ident is None:
            DBOS.destroy(destroy_registry=True)
        self._membership.leave()
        self._threads, self._membership = [], None

    def reconcile(self, before: float, stages: Collection[JobStage] = tuple(JobStage)) -> None:
        """Put every job back that is due, in no queue and untouched since ``before``: no job is ever lost."""
        with self._engine.connect() as connection:
            due = due_attempts(connection, before, attempt_queues.queued_keys(connection), stages)
        for attempt in due:
            with about(job=attempt.job_id), surviving(f"job {attempt.job_id}: putting {attempt.stage} back"):
                self._put_back(attempt)

    def purge_workflows(self, ended_before: datetime) -> int:
        """Delete workflows that ended before a time, at most some hundreds of them; return how many."""
        ended = self._client.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"],
            completed_before=ended_before.isoformat(),
            limit=500,
            load_input=False,
            load_output=False,
        )
        self._client.delete_workflows([workflow.workflow_id for workflow in ended])
        return len(ended)

    def _enqueue(self, connection: Connection, attempts: Sequence[Attempt]) -> None:
        for a in attempts:
            options = {
                "workflow_name": _WORKFLOW,
                "workflow_id": f"{a.key}/{a.number}",
                "queue_name": attempt_queues.queue_of(a),
                "priority": a.priority,
                "serialization_type": WorkflowSerializationFormat.PORTABLE,  # JSON; never pickle from a database
                **({"delay_seconds": a.delay_seconds} if a.delay_seconds else {}),
            }
            of_pipeline = () if a.stage == JobStage.DELIVER else (a.pipeline,)
            role = (SHADOW,) if a.in_shadow else ()
            arguments = (a.job_id, a.run, a.stage, a.subject, a.number, *of_pipeline, *role)
            self._client.enqueue_in_transaction(connection, options, *arguments)
            attempt_queues.date_by_ledger(connection, f"{a.key}/{a.number}", a.delay_seconds)

    def _listen(self, stage: Stage, membership: Membership) -> LocalQueue:
        """Take attempts of a stage from their queues, as many as its slots allow; return that of the whole stage."""
        poll_seconds = self._pace.poll_seconds
        shared = LocalQueue(attempt_queues.stage_queue(stage.name), self._pace.old_poll_seconds, stage.slots)
        shared.pause(paused=membership.is_drained)
        turns = StageTurns(self._engine, stage, membership, poll_seconds, self._stopping)
        self._execution.turns[stage.name] = turns
        for name, of in turns.every():
            self._begin(name, partial(of.run, poll_seconds))
        return shared

    def _begin(self, name: str, function: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=function, name=name, daemon=True))
        self._threads[-1].start()

    def _watch_over(self, shared: Sequence[LocalQueue], membership: Membership) -> None:
        reconciled = time.monotonic()
        # Only who serves a stage knows how often it is tried; the end of a delivery anybody can record.
        stages = self._execution.stages.keys()
        of_stages, of_all = (Leadership(self._engine, work) for work in (f"jobs {sorted(stages)}", "jobs"))
        while not self._stopping.wait(self._pace.look_seconds):
            try:
                pause_all(shared, paused=membership.is_drained)
                if membership.is_drained:
                    self._withdraw_shadow()
                take_over_dead(self._client, membership)
                if of_all.is_ours():
                    self._end_delivered()
                    self.make_stranded_due()
                if time.monotonic() - reconciled > self._pace.reconcile_seconds:
                    reconciled = time.monotonic()
                    for stage in self._execution.stages.values():
                        stage.tidy(membership.alive())
                    if of_stages.is_ours():
                        self.reconcile(clock_of(self._engine) - self._pace.reconcile_seconds, stages)
                        self.purge_workflows(datetime.now(UTC) - _KEPT)
            except Exception as error:
                trace = None if isinstance(error, SQLAlchemyError) else error
                logger.warning("jobs: look missed (%s); trying again", error, exc_info=trace)
        of_stages.release()
        of_all.release()

    def _withdraw_shadow(self) -> None:
        for stage in self._execution.stages.values():
            stage.withdraw_shadow()

    def _end_delivered(self) -> None:
        """End jobs whose last proof came in."""
        with self._engine.connect() as connection:
            delivered = delivered_jobs(connection)
        for job_id in delivered:
            with about(job=job_id), surviving(f"job {job_id}"), begin_immediate(self._engine) as connection:
                transitions.complete_delivered(connection, job_id)

    def _put_back(self, attempt: Attempt) -> None:
        known = self._client.list_workflows(
            workflow_id_prefix=f"{attempt.key}/", sort_desc=True, limit=1, load_input=False, load_output=False
        )
        stage = self._execution.stages.get(attempt.stage)
        with begin_immediate(self._engine) as connection:
            if known and known[0].status in _BROKEN and stage is not None:
                last = replace(attempt, number=int(known[0].workflow_id.rpartition("/")[2]))
                error = _BROKEN[known[0].status]
                due = transitions.fail_attempt(connection, last, error, 0.0, stage.retries, permanent=False)
            else:
                due = transitions.renew_attempts(connection, attempt)
            self._enqueue(connection, due)
