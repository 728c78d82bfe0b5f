"""The figures of an acceptance test, as values. ``node.feedback.acceptance`` computes them."""

from __future__ import annotations

from dataclasses import dataclass

from node.feedback.quality import Estimate
from node.feedback.truth_comparison import CaseComparison
from node.outcome import Outcome

Limits = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class AcceptanceCase:
    """One series of the test: how its analysis ended, and how it compares with the truth."""

    study_instance_uid: str
    series_instance_uid: str
    outcome: Outcome
    seconds: float
    fault: str = ""
    """Why the result would not be sent, or why it cannot be compared; empty: it was."""
    comparison: CaseComparison | None = None


@dataclass(frozen=True, kw_only=True)
class AcceptanceGroup:
    """Figures of the series of one scanner model, or of all."""

    name: str
    series: int
    lesions: int
    hits: int
    false: int
    sensitivity: Estimate | None
    false_per_series: Estimate | None
    dice: Estimate | None
    """Mean of the lesions that were found."""
    volume_difference: Estimate | None
    """Mean of (analysis - truth) over the mean of both, in per cent (Bland and Altman, 1986)."""
    limits_of_agreement: Limits | None


@dataclass(frozen=True, kw_only=True)
class SizeBand:
    """Lesions of the truth of some diameters."""

    from_mm: float
    to_mm: float | None
    lesions: int
    hits: int
    sensitivity: Estimate | None
    dice: Estimate | None


@dataclass(frozen=True, kw_only=True)
class FrocPoint:
    """What remains when only lesions of at least this certainty are reported."""

    certainty: float
    false_per_series: float
    sensitivity: float


@dataclass(frozen=True, kw_only=True)
class CertaintyBand:
    """Reported lesions of some certainties."""

    from_certainty: float
    to_certainty: float
    lesions: int
    true: int
    mean_certainty: float
    share_true: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether certainties are right: of the lesions with a certainty of 0.8 four in five should be there."""

    lesions: int
    brier: float
    """Mean squared difference of certainty and truth; 0 is perfect."""
    excess: Estimate | None
    """Mean of certainty - truth; above 0: the pipeline is too certain."""
    bands: tuple[CertaintyBand, ...]


@dataclass(frozen=True, kw_only=True)
class StructureAgreement:
    """One body structure in all series that outline it."""

    label: str
    series: int
    dice: Estimate | None
    median_dice: float
    volume_difference: Estimate | None
    limits_of_agreement: Limits | None


@dataclass(frozen=True, kw_only=True)
class FailedCase:
    """A series on which the analysis failed or differs from the truth."""

    study_instance_uid: str
    series_instance_uid: str
    scanner: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All figures of an acceptance test."""

    series: int
    patients: int
    """Of the series that were compared."""
    compared: int
    outcomes: dict[str, int]
    without_comparison: int
    """Series that were not analysed, or cannot be compared; their lesions are in no figure."""
    by_algorithms: int
    structures_alone: int
    median_seconds: float | None
    whole: AcceptanceGroup
    by_scanner: tuple[AcceptanceGroup, ...]
    by_size: tuple[SizeBand, ...]
    froc: tuple[FrocPoint, ...]
    """From the most certain lesions on to all; empty: too few, or a lesion has no certainty."""
    calibration: Calibration | None
    structures: tuple[StructureAgreement, ...]
    failed: tuple[FailedCase, ...]
