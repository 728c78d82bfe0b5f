"""Analyses and the verdicts that count, for the quality of pipelines. Neither names a patient; both outlive studies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.tables import job_fact, verdict
from node.ledger.verdict import SourceKind, Verdict


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
    """A verdict that counts."""

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
    groups: tuple[sa.ColumnElement[Any], ...] = (job_fact.c.pipeline, job_fact.c.version, job_fact.c.scanner)
    # A query for each span: SQLite sorts what it groups, and many short sorts take less than a long one.
    spans = [
        sa.select(sa.literal_column(str(index), sa.Integer).label("span"), *groups, sa.func.count().label("number"))
        .where(*_sent(start), *(job_fact.c.at < end for end in ends), job_fact.c.outcome.in_(outcomes))
        .group_by(*groups)
        for index, (start, ends) in enumerate(zip(starts, [*([end] for end in starts[1:]), []], strict=True))
    ]
    counted = Counter[AnalysisGroup]()
    for span, pipeline, version, scanner, number in connection.execute(sa.union_all(*spans)):
        counted[AnalysisGroup(pipeline=pipeline, version=version or "", scanner=scanner, span=span)] += number
    return counted


def counted_verdicts(connection: sa.Connection, starts: Sequence[float]) -> dict[AnalysisGroup, list[CountedVerdict]]:
    """Verdicts that count on analyses of these spans, by the group of the analysis."""
    query = (
        sa.select(
            job_fact.c.pipeline,
            *_VERSION_AND_SCANNER,
            _span(starts),
            *(verdict.c[name] for name in ("job_id", "kind", "verdict", "dice", "volume_mm3", "reader_volume_mm3")),
        )
        .join(job_fact, job_fact.c.job_id == verdict.c.job_id)
        .where(verdict.c.superseded_at.is_(None), *_sent(starts[0]))
    )
    given: dict[AnalysisGroup, list[CountedVerdict]] = {}
    rows = connection.execute(query)
    for pipeline, version, scanner, span, job_id, kind, verdict_text, dice, volume, reader_volume in rows:
        group = AnalysisGroup(pipeline=pipeline, version=version, scanner=scanner, span=int(span))
        counted = CountedVerdict(
            job_id=job_id,
            kind=SourceKind(kind),
            verdict=Verdict(verdict_text),
            dice=dice,
            volume_mm3=volume,
            reader_volume_mm3=reader_volume,
        )
        given.setdefault(group, []).append(counted)
    return given


@dataclass(frozen=True, kw_only=True)
class JudgedAnalysis:
    """An analysis with a verdict on a lesion that it reported."""

    confirmed: int
    """Lesions that readers accepted or edited."""
    rejected: int


def judged_analyses(connection: sa.Connection, pipeline: str, since: float) -> list[JudgedAnalysis]:
    """Judged analyses since then of the version of a pipeline that ran last, in the order of their latest verdicts."""
    of_pipeline = (job_fact.c.pipeline == pipeline, *_sent(since))
    latest = sa.select(job_fact.c.version).where(*of_pipeline).order_by(job_fact.c.at.desc()).limit(1)
    rejected = sa.func.sum(sa.case((verdict.c.verdict == Verdict.REJECTED, 1), else_=0))
    on_reported = (Verdict.ACCEPTED, Verdict.EDITED, Verdict.REJECTED)
    query = (
        sa.select(sa.func.count(), rejected)
        .join(job_fact, job_fact.c.job_id == verdict.c.job_id)
        .where(
            *of_pipeline,
            sa.func.coalesce(job_fact.c.version, "") == sa.func.coalesce(latest.scalar_subquery(), ""),
            verdict.c.superseded_at.is_(None),
            verdict.c.verdict.in_(on_reported),
        )
        .group_by(verdict.c.job_id)
        .order_by(sa.func.max(verdict.c.given_at), verdict.c.job_id)
    )
    return [
        JudgedAnalysis(confirmed=int(number - false), rejected=int(false))
        for number, false in connection.execute(query)
    ]


@dataclass(frozen=True, kw_only=True)
class VerdictTotal:
    """How many lesions of one version of a pipeline have a verdict."""

    pipeline: str
    version: str
    """``""``: not known."""
    verdict: Verdict
    lesions: int


def verdict_totals(connection: sa.Connection) -> list[VerdictTotal]:
    """Verdicts that count, on all analyses that were sent; of each version with a verdict every kind, also with 0."""
    version = sa.func.coalesce(job_fact.c.version, "")
    query = (
        sa.select(job_fact.c.pipeline, version, verdict.c.verdict, sa.func.count())
        .join(job_fact, job_fact.c.job_id == verdict.c.job_id)
        .where(verdict.c.superseded_at.is_(None), *_sent(0.0))
        .group_by(job_fact.c.pipeline, job_fact.c.version, verdict.c.verdict)
    )
    numbers = Counter[tuple[str, str, str]]()
    for pipeline, of, verdict_text, number in connection.execute(query):
        numbers[pipeline, of, verdict_text] += number
    return [
        VerdictTotal(pipeline=pipeline, version=of, verdict=verdict_text, lesions=numbers[pipeline, of, verdict_text])
        for pipeline, of in sorted({key[:2] for key in numbers})
        for verdict_text in (Verdict.ACCEPTED, Verdict.EDITED, Verdict.REJECTED, Verdict.ADDED)
    ]


_VERSION_AND_SCANNER = (
    sa.func.coalesce(job_fact.c.version, "").label("version"),
    job_fact.c.scanner.label("scanner"),
)


def _sent(since: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Analyses since then whose results were not kept in shadow."""
    return job_fact.c.at >= since, job_fact.c.shadow.is_(None)


def _span(starts: Sequence[float]) -> sa.ColumnElement[int]:
    whens = [(job_fact.c.at < end, index) for index, end in enumerate(starts[1:])]
    last = sa.literal_column(str(len(starts) - 1), sa.Integer)
    return (
        sa.case(*((when, sa.literal_column(str(i), sa.Integer)) for when, i in whens), else_=last) if whens else last
    ).label("span")
