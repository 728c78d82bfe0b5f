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
    return sorted((one for pair in pairs for one in _of(pair)), key=lambda one: -one.differing_mm3)


def by_scanner(pairs: Sequence[ComparedPair]) -> list[ScannerCounts]:
    """Return the counts of each scanner model, by name; those of pairs without one last."""
    series, lesions = Counter(one.pair.scanner for one in pairs), Counter[tuple[str, str]]()
    for one in pairs:
        if one.masks is not None:
            lesions[one.pair.scanner, "both"] += len(one.masks.both)
            lesions[one.pair.scanner, "apart"] += sum(lesion.dice < ALIKE for lesion in one.masks.both)
            lesions[one.pair.scanner, "champion"] += len(one.masks.champion_only)
            lesions[one.pair.scanner, "candidate"] += len(one.masks.candidate_only)
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


def _of(one: ComparedPair) -> Iterable[LesionDisagreement]:
    if one.masks is None:
        return
    for pair in one.masks.both:
        if pair.dice < ALIKE:
            yield _disagreement(one, pair)
    for lone in one.masks.champion_only:
        yield _disagreement(
            one, PairedLesion(champion=lone.lesion, candidate="", dice=0.0, champion_mm3=lone.mm3, candidate_mm3=0.0)
        )
    for lone in one.masks.candidate_only:
        yield _disagreement(
            one, PairedLesion(champion="", candidate=lone.lesion, dice=0.0, champion_mm3=0.0, candidate_mm3=lone.mm3)
        )


def _disagreement(one: ComparedPair, of: PairedLesion) -> LesionDisagreement:
    sent = of.champion if one.pair.candidate.in_shadow else of.candidate
    as_added = () if one.masks is None else one.masks.as_added
    return LesionDisagreement(
        study_instance_uid=one.pair.study_instance_uid,
        scanner=one.pair.scanner,
        job_id=one.pair.champion.job_id,
        lesion=of,
        verdict=one.verdicts.get(sent, "added" if {of.champion, of.candidate} & set(as_added) else ""),
    )
