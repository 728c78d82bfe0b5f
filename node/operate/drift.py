"""Drift of a pipeline's input or output: its latest analyses compared with earlier ones. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from node.translation import decimal, gettext, marked
from node.wording import written

MEASURED = {
    "findings": (marked("Findings per analysis"), ""),
    "slices": (marked("Slices"), ""),
    "slice_spacing_mm": (marked("Slice spacing"), "mm"),
    "pixel_spacing_mm": (marked("Pixel spacing"), "mm"),
    "level_low": (marked("5th percentile of grey levels"), marked("HU or stored units")),
    "level_mid": (marked("Median grey level"), marked("HU or stored units")),
    "level_high": (marked("95th percentile of grey levels"), marked("HU or stored units")),
}
"""Columns of ``job_fact`` whose distribution is watched, with name and unit."""
BEFORE = 10
"""Times as many earlier analyses are the reference, at most."""
CHANGED = 0.4
"""Greatest difference of two distributions, 0 (equal) to 1: of their cumulated shares (Kolmogorov-Smirnov) or, for
scanners, of their shares. By chance 50 analyses differ from 50 others by 0.36 or more once in a thousand times."""

Fact = Mapping[str, Any]
"""A row of ``job_fact``."""


def drift(facts: Sequence[Fact], latest: int) -> list[str]:
    """What differs between the ``latest`` and the earlier ones, in words. ``facts``: of one pipeline, newest first.

    Nothing is said before there are as many earlier ones as latest ones.
    """
    now, before = facts[:latest], facts[latest : latest * (BEFORE + 1)]
    if len(now) < latest or len(before) < latest:
        return []
    sentences = [_measured(now, before, column) for column in MEASURED]
    return [words for words in [*sentences, _scanners(now, before)] if words]


def _measured(now: Sequence[Fact], before: Sequence[Fact], column: str) -> str:
    new, old = ([float(f[column]) for f in facts if f[column] is not None] for facts in (now, before))
    if not new or not old or _distance(new, old) < CHANGED:
        return ""
    name, unit = MEASURED[column]
    return gettext(
        "{name}: median {before}, now {now} {unit}",
        name=gettext(name),
        before=decimal(written(float(np.median(old)))),
        now=decimal(written(float(np.median(new)))),
        unit=gettext(unit),
    ).rstrip()


def _distance(first: Sequence[float], other: Sequence[float]) -> float:
    """Statistic of the two-sample Kolmogorov-Smirnov test."""
    values = np.sort([*first, *other])
    shares = [np.searchsorted(np.sort(sample), values, "right") / len(sample) for sample in (first, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _scanners(now: Sequence[Fact], before: Sequence[Fact]) -> str:
    new, old = (Counter(f["scanner"] or "unnamed" for f in facts) for facts in (now, before))
    gained = {scanner: new[scanner] / len(now) - old[scanner] / len(before) for scanner in {*new, *old}}
    if sum(share for share in gained.values() if share > 0) < CHANGED:
        return ""
    most = max(gained, key=lambda scanner: gained[scanner])
    return gettext(
        "Scanners: {before:.0f} % were {scanner}, now {now:.0f} %",
        before=100 * old[most] / len(before),
        scanner=most,
        now=100 * new[most] / len(now),
    )
