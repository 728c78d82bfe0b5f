"""Queues of attempts: one for each pipeline in the stages infer and encode, one for each destination in deliver.

The rows of DBOS's own queues hold for every process that shares the database, so the last one to start would decide how
much all others do at once. These queues are objects of this process, with limits of its own; the database holds only
the attempts that are enqueued under their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from dbos._dbos import _get_or_create_dbos_registry
from dbos._sys_db import SystemDatabase

from node.ledger import JobStage
from node.ledger.clock import ahead_of_machine, ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Attempt
from node.ledger.operator_switches import stopped_pipelines
from node.ledger.pipeline_failures import failed_pipelines
from node.ledger.states import PRIORITIES

_STAGES = {JobStage.INFER: "gpu", JobStage.ENCODE: "cpu", JobStage.DELIVER: "deliver"}
"""Older releases enqueued all attempts of a stage here."""
DBOS_QUEUE = "_dbos_internal_queue"
"""Of DBOS itself: of the node's workflows it holds only those that DBOS's own tools have resumed."""
_TABLE = "workflow_status"
_COLUMNS = (
    "workflow_uuid", "queue_name", "status", "priority", "executor_id", "created_at", "delay_until_epoch_ms",
)  # fmt: skip


class LocalQueue:
    """A queue from which this process takes attempts, by priority, then in the order in which they were enqueued."""

    def __init__(self, name: str, poll_seconds: float, limit: int) -> None:
        """``limit``: attempts of this queue that this process executes at the same time."""
        self._limit = limit
        registry = _get_or_create_dbos_registry()
        self._queue = registry._register_internal_queue(  # noqa: SLF001 - contract-tested, version pinned
            name, worker_concurrency=limit, polling_interval_sec=poll_seconds
        )

    def allow(self, limit: int) -> None:
        """Change the limit; attempts that are being executed count, and continue."""
        self._limit = limit
        self.pause(paused=False)

    def pause(self, *, paused: bool) -> None:
        """Take no attempt, or again as many as the limit allows."""
        # Read at each poll; contract-tested, version pinned.
        self._queue._worker_concurrency = 0 if paused else self._limit  # noqa: SLF001


def pause_all(queues: Sequence[LocalQueue], *, paused: bool) -> None:
    """Take no attempt from any of the queues, or again as many as their limits allow."""
    for queue in queues:
        queue.pause(paused=paused)


def queue_of(attempt: Attempt) -> str:
    """Name of the queue of an attempt."""
    return owner_queue(attempt.stage, attempt.owner, in_shadow=attempt.in_shadow)


def stage_queue(stage: JobStage) -> str:
    """Name of the queue of a whole stage, which holds only what older releases enqueued."""
    return _STAGES[stage]


def owner_queue(stage: JobStage, owner: str, *, in_shadow: bool = False) -> str:
    """Name of the queue of the attempts of a pipeline, or in deliver of those for a destination."""
    return f"{_STAGES[stage]}{'-shadow' if in_shadow else ''}/{owner}"


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The attempts that wait for a turn."""

    attempts: Mapping[str, Counter[int]]
    """How many, by owner and priority."""
    failed: Collection[str] = ()
    """Pipelines whose last job failed; they have less time for infer."""


def attempts_in_turn(
    connection: sa.Connection, stage: JobStage, pipelines: Collection[str], *, in_shadow: bool = False
) -> Waiting:
    """Count the attempts of a stage, those in shadow or the others, that may have a turn now, by owner and priority.

    In infer those of ``pipelines`` only: none of a pipeline that an operator has stopped or that is paused, one of a
    pipeline that keeps failing. The other stages need no pipeline.
    """
    waiting = waiting_attempts(connection, stage, in_shadow=in_shadow)
    if stage != JobStage.INFER:
        return Waiting(attempts=waiting)
    waiting = {name: of for name, of in waiting.items() if name in pipelines}
    if not waiting:
        return Waiting(attempts={})
    stopped, failed, at = stopped_pipelines(connection), failed_pipelines(connection), ledger_clock(connection)
    for pipeline in waiting.keys() & failed.keys():
        of = failed[pipeline]
        if of.until is not None:
            waiting[pipeline] = Counter() if of.is_paused(at) else Counter({min(waiting[pipeline]): 1})
    attempts = {pipeline: of for pipeline, of in waiting.items() if pipeline not in stopped}
    return Waiting(attempts=attempts, failed=failed.keys())


def queued_keys(connection: sa.Connection) -> sa.Select[tuple[str]]:
    """Select the key of every attempt that is queued, waits for its time or runs, with a slash at its end."""
    workflow = _workflows(connection)
    key = sa.func.rtrim(workflow.c.workflow_uuid, "0123456789")  # without the number of the attempt
    # Each by itself and as a constant: DBOS has partial indexes of these states, and most rows have ended.
    open_states: Iterator[sa.ColumnElement[str]] = (
        sa.literal_column(f"'{state}'") for state in ("ENQUEUED", "DELAYED", "PENDING")
    )
    return sa.select(key.label("key")).where(sa.or_(*(workflow.c.status == state for state in open_states)))


def date_by_ledger(connection: sa.Connection, workflow_id: str, delay_seconds: float) -> None:
    """Replace the times of a workflow that was just enqueued, which are by this machine's clock, by the ledger's."""
    if ahead_of_machine(connection) == 0.0:
        return
    workflow, at = _workflows(connection), int(ledger_clock(connection) * 1000)
    until = at + int(delay_seconds * 1000) if delay_seconds else None
    this = sa.update(workflow).where(workflow.c.workflow_uuid == workflow_id)
    connection.execute(this.values(created_at=at, delay_until_epoch_ms=until))


def end_delays_by_ledger() -> None:
    """Have DBOS, which compares with the clock of this machine, end the delays of attempts by that of the ledger.

    Raises ``AttributeError`` when DBOS has no such method any more: it would use its own clock in silence.
    """
    _ = SystemDatabase.transition_delayed_workflows
    SystemDatabase.transition_delayed_workflows = _end_delays


def _end_delays(database: SystemDatabase) -> None:
    with begin_immediate(database.engine) as connection:
        workflow, at = _workflows(connection), int(ledger_clock(connection) * 1000)
        # The state as a constant: DBOS has a partial index of it.
        ended = workflow.c.status == sa.literal_column("'DELAYED'"), workflow.c.delay_until_epoch_ms <= at
        connection.execute(sa.update(workflow).where(*ended).values(status="ENQUEUED"))


def change_priority(connection: sa.Connection, jobs: Sequence[str], priority: str) -> None:
    """Change the priority (``PRIORITIES``) of the attempts of some jobs that wait for a turn, or for their time."""
    workflow = _workflows(connection)
    # As constants: DBOS has partial indexes of these states. The id of an attempt begins with that of its job.
    waiting = sa.or_(*(workflow.c.status == sa.literal_column(f"'{state}'") for state in ("ENQUEUED", "DELAYED")))
    of_jobs = sa.or_(*(workflow.c.workflow_uuid.startswith(f"{one}/", autoescape=True) for one in jobs))
    connection.execute(sa.update(workflow).where(waiting, of_jobs).values(priority=PRIORITIES[priority]))


def running_attempts(connection: sa.Connection) -> dict[str, int]:
    """Count the attempts that each executor has taken and not ended, by its id as a member."""
    if not sa.inspect(connection).has_table(_TABLE, schema=_schema(connection)):  # nothing was ever enqueued
        return {}
    workflow = _workflows(connection)
    query = sa.select(workflow.c.executor_id, sa.func.count()).where(workflow.c.status == "PENDING")
    return dict(connection.execute(query.group_by(workflow.c.executor_id)).all())


@cache
def _waiting_in(schema: str | None, prefix: str) -> sa.Select[Any]:
    """Built once: every process that has slots asks twice a second for each of its stages."""
    workflow = _workflows_in(schema)
    return (
        sa.select(workflow.c.queue_name, workflow.c.priority, sa.func.count())
        .where(
            workflow.c.queue_name.startswith(prefix),
            workflow.c.status == sa.literal_column("'ENQUEUED'"),
            # Of the index; SQLite's planner wants it word for word.
            workflow.c.status.in_([sa.literal_column("'ENQUEUED'"), sa.literal_column("'PENDING'")]),
        )
        .group_by(workflow.c.queue_name, workflow.c.priority)
    )


def _workflows(connection: sa.Connection) -> sa.TableClause:
    """DBOS's table of workflows."""
    return _workflows_in(_schema(connection))


@cache
def _workflows_in(schema: str | None) -> sa.TableClause:
    return sa.table(_TABLE, *map(sa.column, _COLUMNS), schema=schema)


def _schema(connection: sa.Connection) -> str | None:
    return "dbos" if connection.dialect.name == "postgresql" else None


def waiting_attempts(connection: sa.Connection, stage: JobStage, *, in_shadow: bool = False) -> dict[str, Counter[int]]:
    """Count the attempts of a stage that any process may take now, by owner and priority.

    Reads DBOS's table of workflows by an index of nothing but what waits or runs.
    """
    prefix = owner_queue(stage, "", in_shadow=in_shadow)
    rows = connection.execute(_waiting_in(_schema(connection), prefix))
    waiting: dict[str, Counter[int]] = {}
    for queue, priority, number in rows:
        waiting.setdefault(queue.removeprefix(prefix), Counter())[priority] += number
    return waiting
