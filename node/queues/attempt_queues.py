"""Queues of attempts: one for each pipeline in the stages infer and encode, one for each destination in deliver.

Reads what is enqueued under their names in DBOS's table of workflows, without DBOS: verbs ask for it, too, and it takes
a quarter of a second to import. ``node.queues.local_queue`` takes attempts from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa

from node.ledger import JobStage
from node.ledger.clock import ahead_of_machine, ledger_clock
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
    workflow = workflows(connection)
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
    workflow, at = workflows(connection), int(ledger_clock(connection) * 1000)
    until = at + int(delay_seconds * 1000) if delay_seconds else None
    this = sa.update(workflow).where(workflow.c.workflow_uuid == workflow_id)
    connection.execute(this.values(created_at=at, delay_until_epoch_ms=until))


def change_priority(connection: sa.Connection, jobs: Sequence[str], priority: str) -> None:
    """Change the priority (``PRIORITIES``) of the attempts of some jobs that wait for a turn, or for their time."""
    workflow = workflows(connection)
    # As constants: DBOS has partial indexes of these states. The id of an attempt begins with that of its job.
    waiting = sa.or_(*(workflow.c.status == sa.literal_column(f"'{state}'") for state in ("ENQUEUED", "DELAYED")))
    of_jobs = sa.or_(*(workflow.c.workflow_uuid.startswith(f"{job_id}/", autoescape=True) for job_id in jobs))
    connection.execute(sa.update(workflow).where(waiting, of_jobs).values(priority=PRIORITIES[priority]))


def running_attempts(connection: sa.Connection) -> dict[str, int]:
    """Count the attempts that each executor has taken and not ended, by its id as a member."""
    if not sa.inspect(connection).has_table(_TABLE, schema=_schema(connection)):  # nothing was ever enqueued
        return {}
    workflow = workflows(connection)
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


def workflows(connection: sa.Connection) -> sa.TableClause:
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
