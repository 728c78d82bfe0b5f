"""Decisions on generations of series: what routing decided and the trace that explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.events import EventKind, record_study_event
from node.ledger.jobs import IN_TRIAL
from node.ledger.states import DecisionCause, DecisionOutcome
from node.ledger.tables import LATEST_DECISION, decision, event, job, result, series
from node.reasons import Reason


@dataclass(frozen=True, kw_only=True)
class NewDecision:
    """What was decided on one generation of a series."""

    study_instance_uid: str
    series_instance_uid: str
    generation: int
    outcome: DecisionOutcome
    reason: Reason
    trace: Sequence[dict[str, Any]]
    decided_at: float
    cause: DecisionCause | None
    """What decided in place of the rules."""
    incomplete: Reason | None
    """What is known to be missing."""
    caveat: Reason | None
    """What may be missing."""
    characteristics: Mapping[str, Mapping[str, Any]] | None
    """What the images showed, as ``node.studies.characteristics`` has it; ``None``: they were not read."""


@dataclass(frozen=True, kw_only=True)
class ReplaySeries:
    """A series of the past with the decision on its last generation."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: int
    first_at: float
    generation: int
    reason: Reason | str
    characteristics: Mapping[str, Mapping[str, Any]] | None
    """As ``NewDecision`` has them."""


def record_decision(connection: sa.Connection, new: NewDecision) -> None:
    """Keep a decision, in the transaction that completes the series."""
    record_study_event(
        connection,
        EventKind.DECIDED,
        at=new.decided_at,
        study_instance_uid=new.study_instance_uid,
        series_instance_uid=new.series_instance_uid,
        outcome=new.outcome,
        reason=new.reason,
    )
    last_image_at = connection.scalar(
        sa.select(series.c.last_at).where(
            series.c.study_instance_uid == new.study_instance_uid,
            series.c.series_instance_uid == new.series_instance_uid,
        )
    )
    reopened_at = connection.scalar(
        sa.select(sa.func.max(event.c.at)).where(
            event.c.study_instance_uid == new.study_instance_uid,
            event.c.series_instance_uid == new.series_instance_uid,
            event.c.kind == EventKind.REROUTED,
        )
    )
    if last_image_at is not None and reopened_at is not None:
        last_image_at = max(last_image_at, reopened_at)  # what was decided before is no part of the turnaround
    values = {**asdict(new), "trace": list(new.trace), "last_image_at": last_image_at}
    connection.execute(sa.insert(decision).values(**values))


def trace_of(connection: sa.Connection, study: str, series_uid: str, generation: int) -> list[dict[str, Any]]:
    """The trace of a decision; empty when there is none."""
    query = sa.select(decision.c.trace).where(_is(study, series_uid, generation))
    return [dict(entry) for entry in connection.scalar(query) or ()]


def revise_decision(
    connection: sa.Connection,
    study: str,
    series_uid: str,
    generation: int,
    *,
    outcome: DecisionOutcome,
    reason: Reason,
    trace: Sequence[dict[str, Any]],
    at: float,
) -> None:
    """Replace what was decided on a series that waited for others."""
    values = {"outcome": outcome, "reason": reason, "trace": list(trace), "decided_at": at}
    connection.execute(sa.update(decision).where(_is(study, series_uid, generation)).values(**values))


def studies_since(connection: sa.Connection, since: float) -> list[str]:
    """Studies of which an image came at or after ``since``, in the order of their first images."""
    query = (
        sa.select(series.c.study_instance_uid)
        .where(series.c.last_at >= since)
        .group_by(series.c.study_instance_uid)
        .order_by(sa.func.min(series.c.first_at))
    )
    return list(connection.scalars(query))


def decided_series(connection: sa.Connection, study: str) -> list[ReplaySeries]:
    """The series of a study that were routed or ignored, without results of this node."""
    ours = sa.exists().where(result.c.series_instance_uid == series.c.series_instance_uid)
    open_ = (DecisionOutcome.WAITING, DecisionOutcome.HELD)
    columns = ("study_instance_uid", "series_instance_uid", "modality", "instances", "first_at", "generation")
    query = (
        sa.select(*series.c[columns], decision.c.reason, decision.c.characteristics)
        .join(decision, LATEST_DECISION)
        .where(series.c.study_instance_uid == study, decision.c.outcome.not_in(open_), ~ours)
        .where(series.c.purged_images == 0)
        .order_by(series.c.first_at)
    )
    return [ReplaySeries(**row) for row in connection.execute(query).mappings()]


def routes_taken(connection: sa.Connection, study: str, series_uid: str, generation: int) -> dict[str, list[str]]:
    """Destinations by pipeline of the jobs of one generation of a series; none of what is tried in shadow."""
    query = sa.select(job.c.pipeline, job.c.destinations, IN_TRIAL).where(
        job.c.study_instance_uid == study,
        job.c.series_instance_uid == series_uid,
        job.c.generation == generation,
    )
    return {name: [] if in_trial else list(to) for name, to, in_trial in connection.execute(query)}


def _is(study: str, series_uid: str, generation: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        decision.c.study_instance_uid == study,
        decision.c.series_instance_uid == series_uid,
        decision.c.generation == generation,
    )
