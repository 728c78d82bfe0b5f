"""What verdicts say about pipelines: rates with intervals, by version, scanner and month. Pure.

A lesion counts once, with its last verdict. Lesions of one study are taken as independent, which makes intervals a
little too narrow where studies have many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from node.ledger.verdict import SourceKind, Verdict
from node.ledger.verdict_counts import AnalysisGroup, CountedVerdict
from node.outcome import ANALYSED, Outcome

LEAST = 20
"""No rate, mean or agreement of fewer."""
REPORTED = tuple(sorted(ANALYSED - {Outcome.DERIVED}))
"""Outcomes of analyses that a reader can judge."""
_LEVEL = 0.95
_COULD_ADD = (SourceKind.SEGMENTATION, SourceKind.REPORT)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    of: int
    """Lesions or analyses that it rests on."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What readers said of one group of analyses. An estimate of fewer than ``LEAST`` is ``None``."""

    pipeline: str
    version: str
    scanner: str
    month: str
    """As ``2026-11``."""
    analyses: int
    judged: int
    """Analyses with a verdict; the others are silence."""
    accepted: int
    edited: int
    rejected: int
    added: int
    share_judged: Estimate | None
    """Of the analyses, Wilson."""
    ppv: Estimate | None
    """Positive predictive value: accepted and edited lesions among all that were judged, Wilson."""
    false_per_analysis: Estimate | None
    """Rejected lesions for each judged analysis, exact Poisson."""
    sensitivity: Estimate | None
    """Accepted and edited among these and the added lesions, Wilson; of analyses in which readers could add some."""
    dice: Estimate | None
    """Mean of edited lesions, t."""
    volume_difference: Estimate | None
    """Mean of (node - reader) over the mean of both, of edited lesions, in per cent; t (Bland and Altman, 1986)."""
    limits_of_agreement: tuple[float, float] | None
    """1.96 standard deviations round it, in per cent."""


def quality(
    analyses: Mapping[AnalysisGroup, int],
    verdicts: Mapping[AnalysisGroup, Sequence[CountedVerdict]],
    months: Sequence[str],
) -> list[Quality]:
    """One row for each group with an analysis, the latest month first; ``months``: names of the spans."""
    rows = [_quality(group, of, verdicts.get(group, ()), months[group.span]) for group, of in analyses.items()]
    rows.sort(key=lambda row: (row.version, row.scanner))
    rows.sort(key=lambda row: row.month, reverse=True)
    return sorted(rows, key=lambda row: row.pipeline)


def merged(
    analyses: Mapping[AnalysisGroup, int],
    verdicts: Mapping[AnalysisGroup, Sequence[CountedVerdict]],
    by: Sequence[str],
) -> tuple[dict[AnalysisGroup, int], dict[AnalysisGroup, list[CountedVerdict]]]:
    """Put groups together that differ only in what ``by`` does not name: "version", "scanner", "month"."""

    def group(of: AnalysisGroup) -> AnalysisGroup:
        return AnalysisGroup(
            pipeline=of.pipeline,
            version=of.version if "version" in by else "",
            scanner=of.scanner if "scanner" in by else "",
            span=of.span if "month" in by else 0,
        )

    sums: dict[AnalysisGroup, int] = {}
    for key, number in analyses.items():
        sums[group(key)] = sums.get(group(key), 0) + number
    together: dict[AnalysisGroup, list[CountedVerdict]] = {}
    for key, given in verdicts.items():
        together.setdefault(group(key), []).extend(given)
    return sums, together


def _quality(group: AnalysisGroup, analyses: int, given: Sequence[CountedVerdict], month: str) -> Quality:
    number = Counter(verdict.verdict for verdict in given)
    judged = len({verdict.job_id for verdict in given})
    confirmed = number[Verdict.ACCEPTED] + number[Verdict.EDITED]
    complete = (Verdict.ADDED, Verdict.NOTHING_MISSED)
    whole = {verdict.job_id for verdict in given if verdict.kind in _COULD_ADD or verdict.verdict in complete}
    searched = [verdict.verdict for verdict in given if verdict.job_id in whole]
    seen = searched.count(Verdict.ACCEPTED) + searched.count(Verdict.EDITED)
    edited = [verdict for verdict in given if verdict.verdict == Verdict.EDITED and verdict.dice is not None]
    volume_difference, limits = volume_agreement(
        [(verdict.volume_mm3, verdict.reader_volume_mm3) for verdict in edited]
    )
    return Quality(
        pipeline=group.pipeline,
        version=group.version,
        scanner=group.scanner,
        month=month,
        analyses=analyses,
        judged=judged,
        accepted=number[Verdict.ACCEPTED],
        edited=number[Verdict.EDITED],
        rejected=number[Verdict.REJECTED],
        added=number[Verdict.ADDED],
        share_judged=share(judged, analyses),
        ppv=share(confirmed, confirmed + number[Verdict.REJECTED]),
        false_per_analysis=rate(number[Verdict.REJECTED], judged),
        sensitivity=share(seen, seen + searched.count(Verdict.ADDED)),
        dice=mean([verdict.dice for verdict in edited if verdict.dice is not None]),
        volume_difference=volume_difference,
        limits_of_agreement=limits,
    )


def share(part: int, whole: int) -> Estimate | None:
    """A proportion with its Wilson interval (1927)."""
    if whole < LEAST:
        return None
    from scipy.special import ndtri

    z = float(ndtri((1 + _LEVEL) / 2))
    p, weight = part / whole, 1 + z * z / whole
    centre = (p + z * z / (2 * whole)) / weight
    half = z / weight * sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole))
    return Estimate(value=p, low=max(centre - half, 0.0), high=min(centre + half, 1.0), of=whole)


def rate(events: int, of: int) -> Estimate | None:
    """Events for each of ``of``, with the exact interval of a Poisson count (Garwood, 1936)."""
    if of < LEAST:
        return None
    from scipy.special import gammaincinv

    low = float(gammaincinv(events, (1 - _LEVEL) / 2)) if events else 0.0
    return Estimate(value=events / of, low=low / of, high=float(gammaincinv(events + 1, (1 + _LEVEL) / 2)) / of, of=of)


def mean(values: Sequence[float]) -> Estimate | None:
    """A mean with the interval of Student's t."""
    if len(values) < LEAST:
        return None
    from scipy.special import stdtrit

    middle = float(np.mean(values))
    half = float(stdtrit(len(values) - 1, (1 + _LEVEL) / 2)) * float(np.std(values, ddof=1)) / sqrt(len(values))
    return Estimate(value=middle, low=middle - half, high=middle + half, of=len(values))


def volume_agreement(
    pairs: Iterable[tuple[float | None, float | None]],
) -> tuple[Estimate | None, tuple[float, float] | None]:
    """Mean difference of volumes, (first - second) over the mean of both in per cent, and limits of agreement.

    Bland and Altman, 1986. Pairs without both volumes are left out.
    """
    differences = [200.0 * (first - other) / (first + other) for first, other in pairs if first and other]
    middle = mean(differences)
    if middle is None:
        return None, None
    spread = 1.96 * float(np.std(differences, ddof=1))
    return middle, (middle.value - spread, middle.value + spread)
