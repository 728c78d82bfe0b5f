"""The lesions on which champion and candidate of a trial disagree, the largest first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.feedback.mask_comparison import PairedLesion
from node.feedback.trial import ALIKE, ComparedPair


@dataclass(frozen=True, kw_only=True)
class LesionDisagreement:
    """A lesion that one side reports alone, or a pair whose Dice is low."""

    study_instance_uid: str
    scanner: str
    job_id: str
    """Of the champion."""
    lesion: PairedLesion
    """With an empty Tracking UID, no volume and a Dice of 0 for the side that does not report it."""
    verdict: str
    """What readers said of it; empty: nothing."""

    @property
    def differing_mm3(self) -> float:
        """Volume that one side outlines and the other does not."""
        return (1.0 - self.lesion.dice) * (self.lesion.champion_mm3 + self.lesion.candidate_mm3)


@dataclass(frozen=True, kw_only=True)
class ScannerCounts:
    """Lesions on the images of one scanner model."""

    scanner: str
    series: int
    both: int
    """Paired lesions."""
    apart: int
    """Of these, pairs with a low Dice."""
    champion_only: int
    candidate_only: int


def disagreements_of(pairs: Iterable[ComparedPair]) -> list[LesionDisagreement]:
    """All of a trial; equal sizes keep the order of ``pairs``."""
    return sorted(
        (disagreement for pair in pairs for disagreement in _of(pair)),
        key=lambda disagreement: -disagreement.differing_mm3,
    )


def by_scanner(pairs: Sequence[ComparedPair]) -> list[ScannerCounts]:
    """Return the counts of each scanner model, by name; those of pairs without one last."""
    series, lesions = Counter(comparison.pair.scanner for comparison in pairs), Counter[tuple[str, str]]()
    for comparison in pairs:
        if comparison.masks is not None:
            lesions[comparison.pair.scanner, "both"] += len(comparison.masks.both)
            lesions[comparison.pair.scanner, "apart"] += sum(lesion.dice < ALIKE for lesion in comparison.masks.both)
            lesions[comparison.pair.scanner, "champion"] += len(comparison.masks.champion_only)
            lesions[comparison.pair.scanner, "candidate"] += len(comparison.masks.candidate_only)
    return [
        ScannerCounts(
            scanner=scanner,
            series=series[scanner],
            both=lesions[scanner, "both"],
            apart=lesions[scanner, "apart"],
            champion_only=lesions[scanner, "champion"],
            candidate_only=lesions[scanner, "candidate"],
        )
        for scanner in sorted(series, key=lambda name: (not name, name))
    ]


def _of(comparison: ComparedPair) -> Iterable[LesionDisagreement]:
    if comparison.masks is None:
        return
    for pair in comparison.masks.both:
        if pair.dice < ALIKE:
            yield _disagreement(comparison, pair)
    for lone in comparison.masks.champion_only:
        yield _disagreement(
            comparison,
            PairedLesion(champion=lone.lesion, candidate="", dice=0.0, champion_mm3=lone.mm3, candidate_mm3=0.0),
        )
    for lone in comparison.masks.candidate_only:
        yield _disagreement(
            comparison,
            PairedLesion(champion="", candidate=lone.lesion, dice=0.0, champion_mm3=0.0, candidate_mm3=lone.mm3),
        )


def _disagreement(comparison: ComparedPair, of: PairedLesion) -> LesionDisagreement:
    sent = of.champion if comparison.pair.candidate.in_shadow else of.candidate
    as_added = () if comparison.masks is None else comparison.masks.as_added
    return LesionDisagreement(
        study_instance_uid=comparison.pair.study_instance_uid,
        scanner=comparison.pair.scanner,
        job_id=comparison.pair.champion.job_id,
        lesion=of,
        verdict=comparison.verdicts.get(sent, "added" if {of.champion, of.candidate} & set(as_added) else ""),
    )
