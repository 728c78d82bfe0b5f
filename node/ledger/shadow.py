"""Shadow: results that are kept and shown here and sent to no destination, and the stop rules that have tripped."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.errors import NodeError
from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.events import EventKind, record_event
from node.ledger.jobs import REJECTION, Job, update_job
from node.ledger.states import DeliveryState, JobStage, ShadowCause
from node.ledger.tables import delivery, job, job_fact, quality_stop, result
from node.ledger.transitions import cancel_active
from node.reasons import Reason, ReasonCode, reason


@dataclass(frozen=True, kw_only=True)
class QualityStop:
    """A pipeline whose stop rule has tripped, for the last time."""

    pipeline: str
    stopped_at: float
    why: Reason
    resumed_at: float | None
    """``None``: its results are kept in shadow."""


def quality_stops(connection: sa.Connection) -> dict[str, QualityStop]:
    """The last stop of each pipeline, by its name, whether it was resumed or not."""
    rows = connection.execute(sa.select(quality_stop).order_by(quality_stop.c.pipeline)).mappings()
    return {row["pipeline"]: QualityStop(**row) for row in rows}


def pipelines_in_shadow(connection: sa.Connection) -> dict[str, QualityStop]:
    """Pipelines whose stop rule has tripped and whose sending nobody has resumed, by name."""
    return {name: stop for name, stop in quality_stops(connection).items() if stop.resumed_at is None}


def stop_sending(connection: sa.Connection, pipeline: str, why: Reason) -> bool:
    """Keep what a pipeline finds in shadow from now on; ``False``: it is kept there already.

    Deliveries that are not stored are cancelled with their jobs, but for those with a rejection note: notes take back
    what a destination holds.
    """
    if pipeline in pipelines_in_shadow(connection):
        return False
    values = {"stopped_at": ledger_clock(connection), "why": why, "resumed_at": None}
    if not insert_new(connection, quality_stop, [{"pipeline": pipeline, **values}]):
        connection.execute(sa.update(quality_stop).where(quality_stop.c.pipeline == pipeline).values(**values))
    is_sent = delivery.c.state.in_((DeliveryState.SCHEDULED, DeliveryState.IN_PROGRESS))
    withdraws = result.c.kind.startswith(REJECTION)
    to_send = sa.and_(
        job.c.pipeline == pipeline,
        job.c.stage == JobStage.DELIVER,
        sa.exists().where(delivery.c.job_id == job.c.id, is_sent),
        ~sa.exists().where(result.c.job_id == job.c.id, withdraws),
    )
    cancel_active(connection, to_send, reason(ReasonCode.QUALITY_STOPPED, pipeline=pipeline, why=why))
    return True


def resume_sending(connection: sa.Connection, pipeline: str) -> QualityStop:
    """Send what a pipeline finds from now on; verdicts on its analyses until now count no more for its stop rule.

    Raises ``NodeError`` when its stop rule has not tripped.
    """
    stop = pipelines_in_shadow(connection).get(pipeline)
    if stop is None:
        raise NodeError(f"pipeline {pipeline!r} was not stopped by its stop rule; `ainode status` lists those that are")
    connection.execute(
        sa.update(quality_stop).where(quality_stop.c.pipeline == pipeline).values(resumed_at=ledger_clock(connection))
    )
    return stop


def allow_sending(connection: sa.Connection, of: Job, refusal: Reason | None) -> None:
    """Keep what a job finds in shadow unless an acceptance test allows its version; a trial stays in shadow anyway.

    ``refusal``: why it must not be sent; ``None``: it may.
    """
    if of.shadow == ShadowCause.TRIAL:
        return
    if refusal is not None:
        _keep(connection, of.id, ShadowCause.NOT_ACCEPTED, refusal)
    elif of.shadow == ShadowCause.NOT_ACCEPTED:  # as an attempt before this one found
        update_job(connection, of.id, shadow=None)


def stays_in_shadow(connection: sa.Connection, of: Job, refusal: Reason | None = None) -> bool:
    """Whether the results of a job that was just encoded are to be kept in shadow, and record that they are.

    ``refusal``: why an analysis without a result must not be sent.
    """
    if of.shadow == ShadowCause.NOT_ACCEPTED:
        return True
    cause: ShadowCause | None = of.shadow
    why: Reason | None = None
    if cause is None and refusal is not None:
        cause, why = ShadowCause.NOT_ACCEPTED, refusal
    if cause is None and (stop := pipelines_in_shadow(connection).get(of.pipeline)) is not None:
        cause, why = ShadowCause.STOP_RULE, stop.why
    if cause is None:
        return False
    _keep(connection, of.id, cause, why)
    return True


def _keep(connection: sa.Connection, job_id: str, cause: ShadowCause, why: Reason | None) -> None:
    update_job(connection, job_id, shadow=cause)
    connection.execute(sa.update(job_fact).where(job_fact.c.job_id == job_id).values(shadow=cause))
    record_event(connection, job_id, EventKind.KEPT_IN_SHADOW, cause=cause, reason=why)
