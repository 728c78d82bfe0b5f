"""What the account needs to know of every series, decision and result, and which rows belong to nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.progress import Decision
from node.ledger.series import Series
from node.ledger.states import DecisionOutcome
from node.ledger.tables import decision, delivery, delivery_instance, instance, job, original, result, series


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


@dataclass(frozen=True, kw_only=True)
class MissingOrigin:
    """A row whose origin has none."""

    what: str
    origin: str


def study_portions(
    connection: sa.Connection, size: int, period: tuple[float, float] | None = None
) -> Iterator[list[str]]:
    """All studies, ``size`` at a time; with a period, those with a series whose first image came in it."""
    study, last = series.c.study_instance_uid, ""
    query = sa.select(study).distinct().order_by(study).limit(size)
    if period is not None:
        query = query.where(series.c.first_at >= period[0], series.c.first_at < period[1])
    while portion := list(connection.scalars(query.where(study > last))):
        yield portion
        last = portion[-1]


def account_series(connection: sa.Connection, studies: Collection[str]) -> tuple[AccountSeries, ...]:
    """Every series of some studies, in the order of its first image."""
    decisions: dict[tuple[str, str], dict[int, AccountDecision]] = {}
    # Only a routed series has chosen pipelines; decoding the traces of all others would take longest of everything.
    chosen_by = sa.case((decision.c.outcome == DecisionOutcome.ROUTED, decision.c.trace))
    query = sa.select(*decision.c[tuple(Decision.__dataclass_fields__)], chosen_by)
    for *row, trace in connection.execute(query.where(decision.c.study_instance_uid.in_(studies))).all():
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
    of_these = instance.c.study_instance_uid.in_(studies)
    counted = sa.select(*instance.c[key], sa.func.count().label("recorded")).where(of_these)
    images = counted.group_by(*instance.c[key]).subquery()
    rows = connection.execute(
        sa.select(
            *series.c[tuple(Series.__dataclass_fields__)],
            sa.func.coalesce(images.c.recorded, 0).label("recorded"),
        )
        .outerjoin(images, sa.and_(*(series.c[name] == images.c[name] for name in key)))
        .where(series.c.study_instance_uid.in_(studies))
        .order_by(series.c.first_at)
    ).all()
    names = (*Series.__dataclass_fields__, "recorded")
    return tuple(
        AccountSeries(
            **dict(zip(names, row, strict=True)),
            decisions=decisions.get((row.study_instance_uid, row.series_instance_uid), {}),
        )
        for row in rows
    )


def account_results(connection: sa.Connection, studies: Collection[str]) -> tuple[AccountResult, ...]:
    """Every result of some studies, oldest first."""
    query = sa.select(*result.c[tuple(AccountResult.__dataclass_fields__)]).order_by(result.c.created_at)
    of_studies = sa.select(job.c.id).where(job.c.study_instance_uid.in_(studies))
    rows = connection.execute(query.where(result.c.job_id.in_(of_studies))).all()
    return tuple(
        AccountResult(job_id=job_id, sop_instance_uid=uid, description=description, quarantine=quarantine, kind=kind)
        for job_id, uid, description, quarantine, kind in rows
    )


def missing_origins(connection: sa.Connection) -> tuple[MissingOrigin, ...]:
    """Jobs without their series; results and deliveries without their job."""
    of_series = sa.and_(
        series.c.study_instance_uid == job.c.study_instance_uid,
        series.c.series_instance_uid == job.c.series_instance_uid,
    )
    jobs = sa.select(job.c.id, job.c.series_instance_uid).where(~sa.exists().where(of_series))
    results, deliveries = (
        sa.select(of.c[name], of.c.job_id).where(~sa.exists().where(job.c.id == of.c.job_id))
        for of, name in ((result, "sop_instance_uid"), (delivery, "destination"))
    )
    return tuple(
        MissingOrigin(what=f"{what} {name}", origin=f"{of} {origin}")
        for what, of, query in (("job", "series", jobs), ("result", "job", results), ("delivery to", "job", deliveries))
        for name, origin in connection.execute(query)
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
    of_purged = sa.and_(job.c.id == delivery_instance.c.job_id, job.c.results_purged_at.is_not(None))
    answers = (
        sa.select(delivery_instance.c.job_id, delivery_instance.c.destination, sa.func.count().label("n"))
        .where(~sa.exists().where(of_result), ~sa.exists().where(of_original), ~sa.exists().where(of_purged))
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
