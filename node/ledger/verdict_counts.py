"""Analyses and the verdicts that count, for the quality of pipelines. Neither names a patient; both outlive studies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.lesion_verdicts import SourceKind, Verdict
from node.ledger.tables import job_fact, verdict


@dataclass(frozen=True, kw_only=True)
class AnalysisGroup:
    """Analyses of one version of a pipeline on the images of one scanner model in one span of time."""

    pipeline: str
    version: str
    """Of the algorithm; ``""``: not known."""
    scanner: str
    """Manufacturer and model; ``""``: not named."""
    span: int
    """Index of the span."""


@dataclass(frozen=True, kw_only=True)
class CountedVerdict:
    """A verdict that counts, with the group of its analysis."""

    group: AnalysisGroup
    job_id: str
    kind: SourceKind
    verdict: Verdict
    dice: float | None
    volume_mm3: float | None
    reader_volume_mm3: float | None


def analyses_by_group(
    connection: sa.Connection, starts: Sequence[float], outcomes: Sequence[str]
) -> dict[AnalysisGroup, int]:
    """How many analyses ended with one of ``outcomes``; ``starts``: of each span, ascending, the last has no end."""
    columns: list[sa.ColumnElement[Any]] = [job_fact.c.pipeline, *_VERSION_AND_SCANNER, _span(starts)]
    # A subquery: PostgreSQL takes an expression with parameters in GROUP BY for another one than in SELECT.
    counted = sa.select(*columns).where(job_fact.c.at >= starts[0], job_fact.c.outcome.in_(outcomes)).subquery()
    rows: Iterable[Any] = connection.execute(sa.select(*counted.c, sa.func.count()).group_by(*counted.c))
    return {
        AnalysisGroup(pipeline=pipeline, version=version, scanner=scanner, span=int(span)): int(number)
        for pipeline, version, scanner, span, number in rows
    }


def counted_verdicts(connection: sa.Connection, starts: Sequence[float]) -> list[CountedVerdict]:
    """Verdicts that count on analyses of these spans."""
    query = (
        sa.select(
            job_fact.c.pipeline,
            *_VERSION_AND_SCANNER,
            _span(starts),
            *(verdict.c[name] for name in ("job_id", "kind", "verdict", "dice", "volume_mm3", "reader_volume_mm3")),
        )
        .join(job_fact, job_fact.c.job_id == verdict.c.job_id)
        .where(verdict.c.superseded_at.is_(None), job_fact.c.at >= starts[0])
    )
    return [
        CountedVerdict(
            group=AnalysisGroup(pipeline=pipeline, version=version, scanner=scanner, span=int(span)),
            job_id=job_id,
            kind=SourceKind(kind),
            verdict=Verdict(said),
            dice=dice,
            volume_mm3=volume,
            reader_volume_mm3=reader_volume,
        )
        for pipeline, version, scanner, span, job_id, kind, said, dice, volume, reader_volume in connection.execute(
            query
        )
    ]


_VERSION_AND_SCANNER = (
    sa.func.coalesce(job_fact.c.version, "").label("version"),
    job_fact.c.scanner.label("scanner"),
)


def _span(starts: Sequence[float]) -> sa.ColumnElement[int]:
    whens = [(job_fact.c.at < end, index) for index, end in enumerate(starts[1:])]
    last = sa.literal_column(str(len(starts) - 1), sa.Integer)
    return (
        sa.case(*((when, sa.literal_column(str(i), sa.Integer)) for when, i in whens), else_=last) if whens else last
    ).label("span")
