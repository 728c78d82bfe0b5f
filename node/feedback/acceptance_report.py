"""The report of an acceptance test, as it is kept in the ledger, and in words for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from node.feedback.acceptance_figures import AcceptanceGroup, Calibration, Figures, SizeBand, StructureAgreement
from node.feedback.quality import LEAST, Estimate
from node.feedback.quality_report import written

FALSE_PER_SERIES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""At which a FROC curve is read (LUNA16)."""
_LISTED = 50
"""Failed cases in the text."""


@dataclass(frozen=True, kw_only=True)
class AcceptanceReport:
    """What was tested, on what, and what it showed. It names no patient."""

    pipeline: str
    algorithm: str
    version: str
    weights: str | None
    """SHA-256."""
    options: str
    """Digest of factory and options."""
    configuration: str
    """Digest of the whole configuration."""
    data: str
    """SHA-256 of the files that were tested."""
    truth: str
    """Where the truth is from."""
    device: str
    who: str
    left_out: tuple[str, ...]
    """What of the folder or of the verdicts was not tested, in words."""
    figures: Figures


_ADAPTER = TypeAdapter(AcceptanceReport)


def as_document(report: AcceptanceReport) -> dict[str, Any]:
    """Return the report as JSON values."""
    document: dict[str, Any] = _ADAPTER.dump_python(report, mode="json")
    return document


def of_document(document: dict[str, Any]) -> AcceptanceReport:
    """Read what ``as_document`` made."""
    return _ADAPTER.validate_python(document)


def as_text(report: AcceptanceReport) -> str:
    """Return the report for a terminal."""
    figures = report.figures
    weights = (report.weights or "none")[:12]
    outcomes = ", ".join(f"{number} {name}" for name, number in figures.outcomes.items())
    lines = [
        f"{report.pipeline}: {report.algorithm} {report.version}, weights {weights}, on {report.device}",
        f"truth: {report.truth}; data {report.data[:12]}, configuration {report.configuration[:12]}",
        f"{figures.series} series ({outcomes}), {figures.compared} compared; patients: {figures.patients}",
        *report.left_out,
    ]
    if figures.by_algorithms:
        lines.append(f"{figures.by_algorithms} objects of the truth name no person: an algorithm may have made them")
    if figures.structures_alone:
        lines.append(f"{figures.structures_alone} body structures of the truth are not outlined by the pipeline")
    if figures.median_seconds is not None:
        lines.append(f"median run time {figures.median_seconds:.1f} s")
    if figures.whole.lesions or figures.whole.false:
        lines += ["", *_group(figures.whole)]
        for group in figures.by_scanner if len(figures.by_scanner) > 1 else ():
            lines += _group(group)
        lines += ["", "by diameter (of the ball of the same volume)", *map(_band, figures.by_size)]
        lines += ["", *_froc(figures), "", *_calibration(figures.calibration)]
    if figures.structures:
        lines += ["", "body structures", *map(_structure, figures.structures)]
    number = len(figures.failed)
    lines += ["", f"failed cases: {number} of {figures.series} series"]
    lines += [
        f"  {case.series_instance_uid}  {case.scanner or 'no scanner'}: {case.what}"
        for case in figures.failed[:_LISTED]
    ]
    lines += [f"  and {number - _LISTED} more (--json lists all)"] if number > _LISTED else []
    return "\n".join(lines)


def in_words(of: Estimate | None, factor: float, unit: str, few: str = "lesions") -> str:
    """Return an estimate with its interval, or that there are too few."""
    return f"no rate, under {LEAST} {few}" if of is None else written(of, factor, unit)


def size_text(band: SizeBand) -> str:
    """Return the diameters of a band."""
    if band.to_mm is None:
        return f"{band.from_mm:g} mm and more"
    return f"under {band.to_mm:g} mm" if not band.from_mm else f"{band.from_mm:g} to {band.to_mm:g} mm"


def froc_readings(figures: Figures) -> list[tuple[float, float]]:
    """Sensitivity at each of ``FALSE_PER_SERIES`` that the curve reaches."""
    most = max((point.false_per_series for point in figures.froc), default=-1.0)
    return [
        (at, max((point.sensitivity for point in figures.froc if point.false_per_series <= at), default=0.0))
        for at in FALSE_PER_SERIES
        if at <= most
    ]


def _group(group: AcceptanceGroup) -> Iterator[str]:
    hits = f"{group.hits} of {group.lesions} lesions found"
    yield f"{group.name}: {group.series} series, {hits}, {group.false} false reports"
    yield f"  sensitivity: {in_words(group.sensitivity, 100.0, '%')}"
    yield f"  false reports per series: {in_words(group.false_per_series, 1.0, '', 'series')}"
    yield f"  mean Dice of lesions found: {in_words(group.dice, 1.0, '')}"
    yield f"  mean volume difference, analysis - truth: {in_words(group.volume_difference, 1.0, '%')}"
    if group.limits_of_agreement is not None:
        low, high = group.limits_of_agreement
        yield f"  limits of agreement of volumes: {low:+.1f} to {high:+.1f} %"


def _band(band: SizeBand) -> str:
    return (
        f"  {size_text(band)}: {band.hits} of {band.lesions} found, sensitivity "
        f"{in_words(band.sensitivity, 100.0, '%')}, mean Dice {in_words(band.dice, 1.0, '')}"
    )


def _froc(figures: Figures) -> Iterator[str]:
    if not figures.froc:
        yield f"no FROC curve: under {LEAST} lesions or series, or lesions without a certainty"
        return
    all_of = figures.froc[-1]
    at_all = f"{all_of.sensitivity:.2f} at {all_of.false_per_series:.2f} false reports per series"
    yield f"FROC: sensitivity {at_all} as configured"
    for at, sensitivity in froc_readings(figures):
        yield f"  at {at:g} per series: {sensitivity:.2f}"


def _calibration(of: Calibration | None) -> Iterator[str]:
    if of is None:
        yield f"no calibration: under {LEAST} reported lesions, or lesions without a certainty"
        return
    yield f"calibration of {of.lesions} reported lesions: Brier score {of.brier:.3f}"
    yield f"  mean certainty - truth: {in_words(of.excess, 1.0, '')}"
    for band in of.bands:
        share = in_words(band.share_true, 100.0, "%")
        yield (
            f"  certainty {band.from_certainty:g} to {band.to_certainty:g}: {band.true} of {band.lesions} are there, "
            f"{share}; mean certainty {band.mean_certainty:.2f}"
        )


def _structure(structure: StructureAgreement) -> str:
    limits = structure.limits_of_agreement
    agreement = "" if limits is None else f", limits of agreement {limits[0]:+.1f} to {limits[1]:+.1f} %"
    volume = in_words(structure.volume_difference, 1.0, "%", "series")
    return (
        f"  {structure.label}: {structure.series} series, median Dice {structure.median_dice:.2f}, mean "
        f"{in_words(structure.dice, 1.0, '', 'series')}, volume {volume}{agreement}"
    )
