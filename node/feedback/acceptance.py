"""What an acceptance test shows: sensitivity, false reports, agreement and calibration of one version. Pure.

Lesions are found when they overlap, each once. Intervals are the wider ones of two: of a formula that takes lesions as
independent, and of a bootstrap of patients, whose lesions are not. No rate of fewer than ``LEAST`` lesions or series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from node.feedback.acceptance_figures import (
    AcceptanceCase,
    AcceptanceGroup,
    Calibration,
    CertaintyBand,
    FailedCase,
    Figures,
    FrocPoint,
    SizeBand,
    StructureAgreement,
)
from node.feedback.quality import LEAST, Estimate, mean, rate, share, volume_agreement
from node.feedback.truth_comparison import CaseComparison, FalseReport, TruthLesion
from node.outcome import ANALYSED

SIZES_MM = (6.0, 10.0, 20.0, 30.0)
"""Bounds of the bands of diameters."""
BANDS = 5
"""Of certainties, equally wide."""
_ALIKE = 0.5
"""A lesion with a smaller Dice is a failed case."""
_RESAMPLES = 2000
_SEED = 20


def figures_of(cases: Sequence[AcceptanceCase]) -> Figures:
    """Sum up the series of a test."""
    compared = [case.comparison for case in cases if case.comparison is not None]
    seconds = [case.seconds for case in cases if case.outcome in ANALYSED]
    return Figures(
        series=len(cases),
        patients=len({comparison.patient for comparison in compared}),
        compared=len(compared),
        outcomes=dict(Counter(str(case.outcome) for case in cases).most_common()),
        without_comparison=len(cases) - len(compared),
        by_algorithms=sum(comparison.by_algorithms for comparison in compared),
        structures_alone=sum(comparison.structures_alone for comparison in compared),
        median_seconds=float(np.median(seconds)) if seconds else None,
        whole=_group("all", compared),
        by_scanner=tuple(
            _group(scanner or "not named", [comparison for comparison in compared if comparison.scanner == scanner])
            for scanner, _ in Counter(comparison.scanner for comparison in compared).most_common()
        ),
        by_size=_by_size(compared),
        froc=_froc(compared),
        calibration=_calibration(compared),
        structures=_structures(compared),
        failed=tuple(
            FailedCase(
                study_instance_uid=case.study_instance_uid,
                series_instance_uid=case.series_instance_uid,
                scanner="" if case.comparison is None else case.comparison.scanner,
                what=what,
            )
            for case in cases
            if (what := _failure(case))
        ),
    )


def _group(name: str, cases: Sequence[CaseComparison]) -> AcceptanceGroup:
    lesions, hits = _lesions(cases), _hits(cases)
    false = sum(len(case.false) for case in cases)
    difference, limits = volume_agreement((lesion.reported_mm3, lesion.volume_mm3) for lesion in hits)
    return AcceptanceGroup(
        name=name,
        series=len(cases),
        lesions=len(lesions),
        hits=len(hits),
        false=false,
        sensitivity=_widened(share(len(hits), len(lesions)), cases, lambda case: _counted([case])),
        false_per_series=_widened(rate(false, len(cases)), cases, lambda case: (len(case.false), 1)),
        dice=_dice(cases),
        volume_difference=difference,
        limits_of_agreement=limits,
    )


def _lesions(cases: Iterable[CaseComparison]) -> list[TruthLesion]:
    return [lesion for case in cases for lesion in case.lesions]


def _hits(cases: Iterable[CaseComparison]) -> list[TruthLesion]:
    return [lesion for lesion in _lesions(cases) if lesion.hit]


def _counted(cases: Sequence[CaseComparison]) -> tuple[float, float]:
    return len(_hits(cases)), len(_lesions(cases))


def _dice(cases: Sequence[CaseComparison]) -> Estimate | None:
    def summed(case: CaseComparison) -> tuple[float, float]:
        values = [lesion.dice for lesion in case.lesions if lesion.dice is not None]
        return sum(values), len(values)

    return _widened(mean([lesion.dice for lesion in _hits(cases) if lesion.dice is not None]), cases, summed)


def _widened(
    estimate: Estimate | None,
    cases: Sequence[CaseComparison],
    parts: Callable[[CaseComparison], tuple[float, float]],
) -> Estimate | None:
    """Widen an interval to that of a bootstrap of patients; ``parts``: numerator and denominator of one series."""
    if estimate is None:
        return None
    from scipy.stats import bootstrap

    sums: dict[str, np.ndarray] = {}
    for case in cases:
        sums[case.patient] = sums.get(case.patient, np.zeros(2)) + np.array(parts(case), float)
    above, below = np.array([pair for pair in sums.values() if pair[1]]).T
    if below.size < 2:
        return estimate
    drawn = bootstrap(
        (above, below),
        lambda numerators, other, axis: numerators.sum(axis=axis) / other.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Estimate(
        value=estimate.value,
        low=min(estimate.low, float(drawn.low)),
        high=max(estimate.high, float(drawn.high)),
        of=estimate.of,
    )


def _by_size(cases: Sequence[CaseComparison]) -> tuple[SizeBand, ...]:
    bands = []
    for low, high in zip((0.0, *SIZES_MM), (*SIZES_MM, None), strict=True):
        of = [
            lesion
            for lesion in _lesions(cases)
            if low <= lesion.diameter_mm and (not high or lesion.diameter_mm < high)
        ]
        hits = [lesion for lesion in of if lesion.hit]
        if of:
            bands.append(
                SizeBand(
                    from_mm=low,
                    to_mm=high,
                    lesions=len(of),
                    hits=len(hits),
                    sensitivity=share(len(hits), len(of)),
                    dice=mean([lesion.dice for lesion in hits if lesion.dice is not None]),
                )
            )
    return tuple(bands)


def _froc(cases: Sequence[CaseComparison]) -> tuple[FrocPoint, ...]:
    """Sensitivity against false reports per series (Chakraborty, 1989), one point for each certainty."""
    lesions, series = _lesions(cases), len(cases)
    true, false = _certainties(cases)
    if len(lesions) < LEAST or series < LEAST or true is None or false is None:
        return ()
    return tuple(
        FrocPoint(
            certainty=level,
            false_per_series=sum(certainty >= level for certainty in false) / series,
            sensitivity=sum(certainty >= level for certainty in true) / len(lesions),
        )
        for level in sorted({*true, *false}, reverse=True)
    )


def _certainties(cases: Iterable[CaseComparison]) -> tuple[list[float] | None, list[float] | None]:
    """Of the lesions that were found and of false reports; ``None`` when one has no certainty."""

    def complete(of: Iterable[TruthLesion | FalseReport]) -> list[float] | None:
        values = [finding.certainty for finding in of]
        known = [value for value in values if value is not None]
        return known if len(known) == len(values) else None

    cases = list(cases)
    return complete(_hits(cases)), complete(report for case in cases for report in case.false)


def _calibration(cases: Sequence[CaseComparison]) -> Calibration | None:
    true, false = _certainties(cases)
    if true is None or false is None or len(true) + len(false) < LEAST:
        return None
    certain, right = np.array([*true, *false]), np.array([1.0] * len(true) + [0.0] * len(false))
    places = np.minimum((certain * BANDS).astype(int), BANDS - 1)
    return Calibration(
        lesions=certain.size,
        brier=float(np.mean((certain - right) ** 2)),
        excess=mean([*(certain - right)]),
        bands=tuple(
            CertaintyBand(
                from_certainty=band / BANDS,
                to_certainty=(band + 1) / BANDS,
                lesions=int(np.sum(places == band)),
                true=int(right[places == band].sum()),
                mean_certainty=float(certain[places == band].mean()),
                share_true=share(int(right[places == band].sum()), int(np.sum(places == band))),
            )
            for band in range(BANDS)
            if (places == band).any()
        ),
    )


def _structures(cases: Sequence[CaseComparison]) -> tuple[StructureAgreement, ...]:
    labels = Counter(structure.label for case in cases for structure in case.structures)
    agreements = []
    for label in sorted(labels):
        of = [structure for case in cases for structure in case.structures if structure.label == label]
        difference, limits = volume_agreement((structure.reported_mm3, structure.volume_mm3) for structure in of)
        agreements.append(
            StructureAgreement(
                label=label,
                series=len(of),
                dice=mean([structure.dice for structure in of]),
                median_dice=float(np.median([structure.dice for structure in of])),
                volume_difference=difference,
                limits_of_agreement=limits,
            )
        )
    return tuple(agreements)


def _failure(case: AcceptanceCase) -> str:
    if case.comparison is None:
        return case.fault or str(case.outcome)
    missed = [lesion for lesion in case.comparison.lesions if not lesion.hit]
    apart = [lesion for lesion in case.comparison.lesions if lesion.dice is not None and lesion.dice < _ALIKE]
    apart_structures = [structure for structure in case.comparison.structures if structure.dice < _ALIKE]
    parts = []
    if missed:
        parts.append(f"missed {', '.join(f'{lesion.diameter_mm:.0f} mm' for lesion in missed)}")
    if case.comparison.false:
        parts.append(f"{len(case.comparison.false)} reported falsely")
    if apart:
        parts.append(f"{len(apart)} with a Dice below {_ALIKE:g}")
    if apart_structures:
        parts.append(f"{', '.join(structure.label for structure in apart_structures)}: Dice below {_ALIKE:g}")
    return "; ".join(parts)
