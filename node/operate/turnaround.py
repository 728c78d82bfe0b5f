"""Turnaround: from the last image of a series to the proof that its results are where they belong. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.ledger.turnaround import DeliveredAnalysis

QUANTILES = (0.5, 0.9, 0.99)
DAY_SECONDS = 86400.0


@dataclass(frozen=True, kw_only=True)
class Turnaround:
    """The turnaround of several analyses, in seconds."""

    pipeline: str
    scanner: str
    """Empty: not known."""
    analyses: int
    quantiles: dict[float, float]
    """Of ``QUANTILES``: the value that this share of the analyses did not exceed."""
    longest: float


def turnarounds(arrived: Iterable[DeliveredAnalysis]) -> list[Turnaround]:
    """By pipeline and scanner, in alphabetical order."""
    groups: dict[tuple[str, str], list[float]] = {}
    for one in arrived:
        groups.setdefault((one.pipeline, one.scanner), []).append(one.seconds)
    return [_summed(pipeline, scanner, seconds) for (pipeline, scanner), seconds in sorted(groups.items())]


def by_hour(arrived: Iterable[DeliveredAnalysis]) -> list[tuple[float, Turnaround]]:
    """Begin of each hour (UTC) in which analyses arrived, with their turnaround; the pipeline is that of the first."""
    hours: dict[float, list[DeliveredAnalysis]] = {}
    for one in arrived:
        hours.setdefault(one.arrived_at // 3600 * 3600, []).append(one)
    return [(hour, _summed(of[0].pipeline, "", [one.seconds for one in of])) for hour, of in sorted(hours.items())]


def _summed(pipeline: str, scanner: str, seconds: Sequence[float]) -> Turnaround:
    ordered = sorted(seconds)
    return Turnaround(
        pipeline=pipeline,
        scanner=scanner,
        analyses=len(ordered),
        quantiles={share: ordered[math.ceil(share * len(ordered)) - 1] for share in QUANTILES},
        longest=ordered[-1],
    )
