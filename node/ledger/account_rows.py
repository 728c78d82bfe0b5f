"""What the account needs to know of every series, decision and result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import sqlalchemy as sa

from node.ledger.engine import among
from node.ledger.key_ranges import KeyCondition, key_ranges
from node.ledger.progress import Decision
from node.ledger.series import Series
from node.ledger.states import DecisionOutcome
from node.ledger.tables import decision, instance, job, result, series


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


def studies_at_once(
    connection: sa.Connection, size: int, period: tuple[float, float] | None = None
) -> Iterator[KeyCondition]:
    """All studies, those of about ``size`` series at a time; with a period, those whose first image came in it.

    Without a period, studies that have no series are among them.
    """
    study = series.c.study_instance_uid
    if period is None:
        yield from key_ranges(connection, study, size)
        return
    begin, end = period
    query = sa.select(study).where(series.c.first_at >= begin, series.c.first_at < end)
    studies = list(connection.scalars(query.distinct().order_by(study)))
    for first in range(0, len(studies), size):
        yield partial(among, connection, values=studies[first : first + size])


def image_counts(connection: sa.Connection, of_studies: KeyCondition) -> dict[tuple[str, str], int]:
    """How many images have a row that names a series, of some studies: the index of series has all that this needs."""
    key = instance.c["study_instance_uid", "series_instance_uid"]
    query = sa.select(*key, sa.func.count()).where(of_studies(instance.c.study_instance_uid))
    rows = connection.execute(query.group_by(*key).order_by(*key))
    return {(row[0], row[1]): row[2] for row in rows}


def account_series(
    connection: sa.Connection, of_studies: KeyCondition, images: Mapping[tuple[str, str], int]
) -> tuple[AccountSeries, ...]:
    """Every series of some studies, in the order of its first image; ``images``: as ``image_counts``."""
    decisions: dict[tuple[str, str], dict[int, AccountDecision]] = {}
    # Only a routed series has chosen pipelines; decoding the traces of all others would take longest of everything.
    chosen_by = sa.case((decision.c.outcome == DecisionOutcome.ROUTED, decision.c.trace))
    query = sa.select(*decision.c[tuple(Decision.__dataclass_fields__)], chosen_by)
    for *row, trace in connection.execute(query.where(of_studies(decision.c.study_instance_uid))).all():
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
    names = tuple(Series.__dataclass_fields__)
    # Sorted here: SQLite would read the whole index of first images for the order.
    rows = connection.execute(sa.select(*series.c[names]).where(of_studies(series.c.study_instance_uid)))
    return tuple(
        AccountSeries(
            **dict(zip(names, row, strict=True)),
            recorded=images.get((row.study_instance_uid, row.series_instance_uid), 0),
            decisions=decisions.get((row.study_instance_uid, row.series_instance_uid), {}),
        )
        for row in sorted(rows, key=attrgetter("first_at"))
    )


def account_results(connection: sa.Connection, of_studies: KeyCondition) -> tuple[AccountResult, ...]:
    """Every result of some studies, oldest first."""
    names = tuple(AccountResult.__dataclass_fields__)
    query = sa.select(*result.c[names]).join(job, job.c.id == result.c.job_id)
    rows = connection.execute(query.where(of_studies(job.c.study_instance_uid)).order_by(result.c.created_at))
    return tuple(
        AccountResult(job_id=job_id, sop_instance_uid=uid, description=description, quarantine=quarantine, kind=kind)
        for job_id, uid, description, quarantine, kind in rows
    )
