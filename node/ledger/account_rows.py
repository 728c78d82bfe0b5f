"""What the account needs to know of every series, decision and result, and which rows belong to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.progress import Decision
from node.ledger.series import Series
from node.ledger.states import DecisionOutcome
from node.ledger.tables import decision, delivery_instance, instance, original, result, series


@dataclass(frozen=True, kw_only=True)
class AccountDecision(Decision):
    """A decision with the pipelines that it chose."""

    pipelines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AccountSeries(Series):
    """A series with what was decided on each of its generations."""

    recorded: int
    """Images that have a row of their own."""
    decisions: Mapping[int, AccountDecision]
    """By generation."""

    @property
    def decision(self) -> AccountDecision | None:
        """On its latest generation."""
        return self.decisions.get(self.generation)


@dataclass(frozen=True, kw_only=True)
class AccountResult:
    """A result object."""

    job_id: str
    sop_instance_uid: str
    description: str
    quarantine: str | None
    """Why the gate holds it back."""
    kind: str | None


@dataclass(frozen=True, kw_only=True)
class RowsWithoutOrigin:
    """Images that name a series, or answers that name an object, of which there is no row."""

    of: str
    rows: int


def account_series(connection: sa.Connection) -> tuple[AccountSeries, ...]:
    """Every series, in the order of its first image."""
    decisions: dict[tuple[str, str], dict[int, AccountDecision]] = {}
    # Only a routed series has chosen pipelines; decoding the traces of all others would take longest of everything.
    chosen_by = sa.case((decision.c.outcome == DecisionOutcome.ROUTED, decision.c.trace))
    query = sa.select(*decision.c[tuple(Decision.__dataclass_fields__)], chosen_by)
    for *row, trace in connection.execute(query):
        study, uid, generation, outcome, reason, cause = row
        chosen = [name for entry in trace or () if entry.get("chosen", entry["matched"]) for name in entry["pipelines"]]
        decisions.setdefault((study, uid), {})[generation] = AccountDecision(
            study_instance_uid=study,
            series_instance_uid=uid,
            generation=generation,
            outcome=outcome,
            reason=reason,
            cause=cause,
            pipelines=tuple(dict.fromkeys(chosen)),
        )
    key = ("study_instance_uid", "series_instance_uid")
    images = sa.select(*instance.c[key], sa.func.count().label("recorded")).group_by(*instance.c[key]).subquery()
    rows = connection.execute(
        sa.select(
            *series.c[tuple(Series.__dataclass_fields__)],
            sa.func.coalesce(images.c.recorded, 0).label("recorded"),
        )
        .outerjoin(images, sa.and_(*(series.c[name] == images.c[name] for name in key)))
        .order_by(series.c.first_at)
    )
    names = (*Series.__dataclass_fields__, "recorded")
    return tuple(
        AccountSeries(
            **dict(zip(names, row, strict=True)),
            decisions=decisions.get((row.study_instance_uid, row.series_instance_uid), {}),
        )
        for row in rows
    )


def account_results(connection: sa.Connection) -> tuple[AccountResult, ...]:
    """Every result, oldest first."""
    query = sa.select(*result.c[tuple(AccountResult.__dataclass_fields__)]).order_by(result.c.created_at)
    return tuple(
        AccountResult(job_id=job_id, sop_instance_uid=uid, description=description, quarantine=quarantine, kind=kind)
        for job_id, uid, description, quarantine, kind in connection.execute(query)
    )


def rows_without_origin(connection: sa.Connection) -> tuple[RowsWithoutOrigin, ...]:
    """Images without a series, and answers of destinations without an object."""
    of_series = sa.and_(
        series.c.study_instance_uid == instance.c.study_instance_uid,
        series.c.series_instance_uid == instance.c.series_instance_uid,
    )
    images = (
        sa.select(instance.c.study_instance_uid, instance.c.series_instance_uid, sa.func.count().label("n"))
        .where(~sa.exists().where(of_series))
        .group_by(instance.c.study_instance_uid, instance.c.series_instance_uid)
    )
    of_result = sa.and_(
        result.c.job_id == delivery_instance.c.job_id,
        result.c.sop_instance_uid == delivery_instance.c.sop_instance_uid,
    )
    of_original = sa.and_(
        original.c.job_id == delivery_instance.c.job_id,
        original.c.sop_instance_uid == delivery_instance.c.sop_instance_uid,
    )
    answers = (
        sa.select(delivery_instance.c.job_id, delivery_instance.c.destination, sa.func.count().label("n"))
        .where(~sa.exists().where(of_result), ~sa.exists().where(of_original))
        .group_by(delivery_instance.c.job_id, delivery_instance.c.destination)
    )
    return (
        *(
            RowsWithoutOrigin(
                of=f"images of series {row.series_instance_uid}, study {row.study_instance_uid}", rows=row.n
            )
            for row in connection.execute(images)
        ),
        *(
            RowsWithoutOrigin(of=f"answers of {row.destination} to results of job {row.job_id}", rows=row.n)
            for row in connection.execute(answers)
        ),
    )
