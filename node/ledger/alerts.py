"""What may need an operator: work that does not move, failures, stopped series; and the alerts that were sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.engine import insert_new
from node.ledger.jobs import IN_TRIAL, PROGRESS
from node.ledger.states import ACTIVE, DecisionCause, JobStage
from node.ledger.tables import alarm, decision, job, stopped
from node.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class NamedCount:
    """How many there are of a stage or of a pipeline."""

    name: str
    number: int
    oldest: float
    """Of them, in seconds since 1970 UTC."""


def jobs_without_progress(connection: sa.Connection, before: float) -> list[NamedCount]:
    """Jobs that have not moved on since ``before``, by stage; without those of pipelines that are stopped or tried."""
    waits_for_operator = job.c.pipeline.in_(sa.select(stopped.c.pipeline))
    query = sa.select(job.c.stage, sa.func.count(), sa.func.min(PROGRESS)).group_by(job.c.stage)
    rows = connection.execute(query.where(job.c.state.in_(ACTIVE), before > PROGRESS, ~waits_for_operator, ~IN_TRIAL))
    return [NamedCount(name=stage, number=number, oldest=oldest) for stage, number, oldest in rows]


def jobs_to_infer(connection: sa.Connection) -> list[NamedCount]:
    """Jobs that have to be analysed, by pipeline; without those of pipelines that an operator stopped."""
    query = sa.select(job.c.pipeline, sa.func.count(), sa.func.min(PROGRESS)).group_by(job.c.pipeline)
    to_infer = (job.c.state.in_(ACTIVE), job.c.stage == JobStage.INFER)
    rows = connection.execute(query.where(*to_infer, job.c.pipeline.not_in(sa.select(stopped.c.pipeline))))
    return [NamedCount(name=pipeline, number=number, oldest=oldest) for pipeline, number, oldest in rows]


def has_active_jobs(connection: sa.Connection) -> bool:
    """Whether any job has not ended."""
    return connection.scalar(sa.select(job.c.id).where(job.c.state.in_(ACTIVE)).limit(1)) is not None


def failed_jobs(connection: sa.Connection, since: float) -> list[NamedCount]:
    """Jobs that have failed since then, by pipeline; without those of pipelines that are tried."""
    query = sa.select(job.c.pipeline, sa.func.count(), sa.func.min(job.c.updated_at)).group_by(job.c.pipeline)
    rows = connection.execute(query.where(job.c.outcome == Outcome.FAILED, job.c.updated_at >= since, ~IN_TRIAL))
    return [NamedCount(name=pipeline, number=number, oldest=oldest) for pipeline, number, oldest in rows]


def discontinued_series(connection: sa.Connection, since: float) -> NamedCount | None:
    """Series that were stopped since then because their procedure step was discontinued."""
    query = sa.select(sa.func.count(), sa.func.min(decision.c.decided_at))
    stopped_since = (decision.c.cause == DecisionCause.DISCONTINUED, decision.c.decided_at >= since)
    number, oldest = connection.execute(query.where(*stopped_since)).one()
    return NamedCount(name=DecisionCause.DISCONTINUED, number=number, oldest=oldest) if number else None


def raised_alerts(connection: sa.Connection, channel: str) -> dict[str, str]:
    """Problem -> sentence of what a channel has reported and what lasts."""
    query = sa.select(alarm.c.problem, alarm.c.text).where(alarm.c.channel == channel)
    return {row.problem: row.text for row in connection.execute(query)}


def record_alerts(
    connection: sa.Connection, channel: str, begun: Mapping[str, str], over: Collection[str], at: float
) -> None:
    """Keep that a channel has reported problems that began, and problems that are over."""
    rows = [{"channel": channel, "problem": name, "text": text, "at": at} for name, text in begun.items()]
    insert_new(connection, alarm, rows)
    connection.execute(sa.delete(alarm).where(alarm.c.channel == channel, alarm.c.problem.in_(over)))
