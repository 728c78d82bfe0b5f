"""Turnaround: from the last image of a series to the proof that its results are where they belong. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.ledger.turnaround import DeliveredAnalysis, StageTimes
from node.translation import marked

QUANTILES = (0.5, 0.9, 0.99)
DAY_SECONDS = 86400.0


STAGES = (
    marked("waiting for completeness"),
    marked("waiting for a device"),
    marked("analysis"),
    marked("encoding"),
    marked("delivery"),
    marked("confirmation"),
)
"""Parts of a turnaround, in their order. Each ends when the next begins, failed attempts and pauses included."""


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
    for analysis in arrived:
        groups.setdefault((analysis.pipeline, analysis.scanner), []).append(analysis.seconds)
    return [_summed(pipeline, scanner, seconds) for (pipeline, scanner), seconds in sorted(groups.items())]


def by_hour(arrived: Iterable[DeliveredAnalysis]) -> list[tuple[float, Turnaround]]:
    """Begin of each hour (UTC) in which analyses arrived, with their turnaround; the pipeline is that of the first."""
    hours: dict[float, list[DeliveredAnalysis]] = {}
    for analysis in arrived:
        hours.setdefault(analysis.arrived_at // 3600 * 3600, []).append(analysis)
    return [
        (hour, _summed(of[0].pipeline, "", [analysis.seconds for analysis in of])) for hour, of in sorted(hours.items())
    ]


def _summed(pipeline: str, scanner: str, seconds: Sequence[float]) -> Turnaround:
    ordered = sorted(seconds)
    return Turnaround(
        pipeline=pipeline,
        scanner=scanner,
        analyses=len(ordered),
        quantiles={share: ordered[math.ceil(share * len(ordered)) - 1] for share in QUANTILES},
        longest=ordered[-1],
    )


def stages(of: StageTimes) -> dict[str, float]:
    """Seconds of each of ``STAGES`` that has ended; together they are the turnaround of an analysis that arrived.

    A time that lies before the one in front of it, because something was repeated or a clock was set, counts as that.
    """
    ends = (of.scheduled_at, of.begun_at, of.analysed_at, of.encoded_at, of.sent_at, of.arrived_at)
    seconds: dict[str, float] = {}
    last = of.scheduled_at if of.last_image_at is None else of.last_image_at
    for name, end in zip(STAGES, ends, strict=True):
        if end is not None:
            seconds[name] = max(end - last, 0.0)
            last = max(end, last)
    return seconds


def median_stages(of: Iterable[StageTimes]) -> dict[str, float]:
    """Median seconds of each of ``STAGES`` over several analyses; without those that none of them has ended."""
    values: dict[str, list[float]] = {}
    for times in of:
        for name, seconds in stages(times).items():
            values.setdefault(name, []).append(seconds)
    return {name: sorted(values[name])[(len(values[name]) - 1) // 2] for name in STAGES if name in values}
