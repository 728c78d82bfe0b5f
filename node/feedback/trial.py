"""What a trial has shown: champion and candidate on the same series. Pure.

Lesions are paired by overlap. Where readers have judged the analysis that was sent, both are compared on the lesions
that are there according to them: those that they confirmed, and those that they added. A lesion that only the other
analysis reports has no verdict, unless a reader added it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from node.feedback.mask_comparison import MaskComparison
from node.feedback.quality import Estimate, mean, volume_agreement
from node.ledger.trials import TrialAnalysis, TrialPair, Untried
from node.ledger.verdict import Verdict
from node.outcome import Outcome

ALIKE = 0.5
"""A pair of lesions with a smaller Dice is a disagreement."""
_DIGITS = 8
"""Of the digest of weights."""


@dataclass(frozen=True, kw_only=True)
class ComparedPair:
    """A pair of analyses, how their masks compare, and what readers say of the one that was sent."""

    pair: TrialPair
    masks: MaskComparison | None
    """``None``: an analysis has no masks that can be compared."""
    verdicts: Mapping[str, str]
    """Verdict by Tracking UID of a lesion of the analysis that was sent."""
    has_images: bool = True
    """Whether the images of the series are still stored: retention may have purged them before their study."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two pipelines."""

    pipeline: str
    versions: tuple[str, ...]
    """With the beginning of the digest of the weights, which tells apart what has the same version."""
    weights: tuple[str, ...]
    """SHA-256."""
    failed: int
    run_seconds: tuple[float, float] | None
    """Median and 90th percentile."""
    host_mib: float | None
    """Highest peak."""
    device_mib: float | None
    lesions_alone: int
    """That the other does not report."""


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Lesions that are there according to readers, by who reports them."""

    both: int
    champion_only: int
    candidate_only: int
    neither: int
    p_value: float
    """McNemar's exact test, two-sided."""
    rejected: int
    """Lesions of the analysis that was sent that readers rejected."""
    rejected_both: int
    """Of these the other analysis reports as well."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A study on which champion and candidate disagree."""

    study_instance_uid: str
    scanner: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The report of a trial."""

    analyses: int
    untried: Untried
    """Series that wait for idle time."""
    since: float | None
    """POSIX time of the first job; ``None``: there is none."""
    until: float | None
    """Of the last."""
    without_masks: int
    """Pairs whose masks could not be compared."""
    without_images: int
    """Of these, pairs whose images retention has purged."""
    champion: Side
    candidate: Side
    paired: int
    """Lesions that both report."""
    dice: Estimate | None
    """Mean of the paired lesions."""
    volume_difference: Estimate | None
    """Mean of (candidate - champion) over the mean of both, in per cent (Bland and Altman, 1986)."""
    limits_of_agreement: tuple[float, float] | None
    hits: Hits | None
    """``None``: no reader has judged any of the analyses."""
    disagreements: tuple[Disagreement, ...]


def trial_of(champion: str, candidate: str, pairs: Sequence[ComparedPair], untried: Untried | None = None) -> Trial:
    """Sum up a trial; ``pairs`` of the pipelines with these names. ``untried``: series that wait for idle time."""
    both = [lesion for comparison in pairs if comparison.masks is not None for lesion in comparison.masks.both]
    volume_difference, limits = volume_agreement([(lesion.candidate_mm3, lesion.champion_mm3) for lesion in both])
    times = [comparison.pair.candidate.created_at for comparison in pairs]
    return Trial(
        analyses=len(pairs),
        untried=untried or Untried(),
        since=min(times, default=None),
        until=max(times, default=None),
        without_masks=sum(comparison.masks is None for comparison in pairs),
        without_images=sum(comparison.masks is None and not comparison.has_images for comparison in pairs),
        champion=_side(
            champion,
            [comparison.pair.champion for comparison in pairs],
            sum(len(comparison.masks.champion_only) for comparison in pairs if comparison.masks is not None),
        ),
        candidate=_side(
            candidate,
            [comparison.pair.candidate for comparison in pairs],
            sum(len(comparison.masks.candidate_only) for comparison in pairs if comparison.masks is not None),
        ),
        paired=len(both),
        dice=mean([lesion.dice for lesion in both]),
        volume_difference=volume_difference,
        limits_of_agreement=limits,
        hits=_hits(pairs),
        disagreements=tuple(
            Disagreement(
                study_instance_uid=comparison.pair.study_instance_uid, scanner=comparison.pair.scanner, what=what
            )
            for comparison in pairs
            if (what := _disagreement(comparison))
        ),
    )


def _side(pipeline: str, analyses: Sequence[TrialAnalysis], alone: int) -> Side:
    seconds = [analysis.run_seconds for analysis in analyses if analysis.run_seconds is not None]
    return Side(
        pipeline=pipeline,
        versions=tuple(sorted({name for analysis in analyses if (name := _version(analysis))})),
        weights=tuple(sorted({analysis.weights for analysis in analyses if analysis.weights})),
        failed=sum(analysis.outcome == Outcome.FAILED for analysis in analyses),
        run_seconds=(float(np.median(seconds)), float(np.percentile(seconds, 90))) if seconds else None,
        host_mib=max((analysis.host_mib for analysis in analyses if analysis.host_mib is not None), default=None),
        device_mib=max((analysis.device_mib for analysis in analyses if analysis.device_mib is not None), default=None),
        lesions_alone=alone,
    )


def _version(of: TrialAnalysis) -> str:
    weights = f"weights {of.weights[:_DIGITS]}" if of.weights else ""
    return ", ".join(filter(None, (of.version, weights)))


def _hits(pairs: Sequence[ComparedPair]) -> Hits | None:
    judged = [
        comparison
        for comparison in pairs
        if comparison.masks is not None and (comparison.verdicts or comparison.masks.added)
    ]
    if not judged:
        return None
    hits: list[tuple[bool, bool]] = []
    rejected = rejected_both = 0
    for comparison in judged:
        masks = comparison.masks or MaskComparison()
        hits += masks.added
        by_champion = comparison.pair.candidate.in_shadow
        shared = {lesion.champion if by_champion else lesion.candidate for lesion in masks.both}
        hits += [
            (by_champion or uid in shared, not by_champion or uid in shared) for uid in _with(comparison, _CONFIRMED)
        ]
        rejections = _with(comparison, (Verdict.REJECTED,))
        rejected, rejected_both = rejected + len(rejections), rejected_both + len(shared & rejections)
    champion_only, candidate_only = hits.count((True, False)), hits.count((False, True))
    return Hits(
        both=hits.count((True, True)),
        champion_only=champion_only,
        candidate_only=candidate_only,
        neither=hits.count((False, False)),
        p_value=mcnemar(champion_only, candidate_only),
        rejected=rejected,
        rejected_both=rejected_both,
    )


_CONFIRMED = (Verdict.ACCEPTED, Verdict.EDITED)


def _with(comparison: ComparedPair, wanted: Collection[str]) -> set[str]:
    return {uid for uid, said in comparison.verdicts.items() if said in wanted}


def mcnemar(one: int, other: int) -> float:
    """Two-sided p-value of McNemar's exact test on the numbers of discordant pairs."""
    from scipy.stats import binomtest

    return float(binomtest(one, one + other).pvalue) if one + other else 1.0


def _disagreement(comparison: ComparedPair) -> str:
    first, second = comparison.pair.champion.outcome, comparison.pair.candidate.outcome
    parts = [f"{first} against {second}"] if first != second else []
    if comparison.masks is not None:
        apart = sum(lesion.dice < ALIKE for lesion in comparison.masks.both)
        for number, what in (
            (len(comparison.masks.champion_only), "of the champion alone"),
            (len(comparison.masks.candidate_only), "of the candidate alone"),
            (apart, f"with a Dice below {ALIKE:g}"),
        ):
            parts += [f"{number} lesion{'s' if number > 1 else ''} {what}"] if number else []
    return ", ".join(parts)
