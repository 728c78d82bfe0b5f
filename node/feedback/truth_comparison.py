"""An analysis of a series compared with its truth: lesions found, missed and reported falsely. Runs confined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import pi
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import InputError
from node.feedback.truth import TruthPart
from node.studies.pydicom_errors import UNREADABLE

if TYPE_CHECKING:  # decoders are imported in the confined process only
    from node.feedback.truth_masks import TruthMasks
    from node.studies.segment_masks import SegmentMask
    from node.studies.source import SourceSeries

_CERTAINTY = "111012"
"""Certainty of Finding (DCM), per cent."""
_TRUTH, _REPORTED = (80, 220, 100), (255, 90, 60)
"""Colours of the outlines in pictures."""


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """A series, what an analysis made of it, and its truth."""

    images: tuple[Path, ...]
    segmentation: Path | None
    """``None``: the analysis outlines nothing."""
    report: Path | None
    parts: tuple[TruthPart, ...]
    labels: tuple[str, ...] = ()
    """Segments of the truth that count; empty: all."""
    pictures: int = 0
    """How many pictures of failures to draw, at most."""


@dataclass(frozen=True, kw_only=True)
class TruthLesion:
    """A lesion of the truth, and what the analysis says of it."""

    label: str
    volume_mm3: float
    hit: bool
    dice: float | None = None
    """Of a lesion that was found."""
    reported_mm3: float | None = None
    certainty: float | None = None
    """0 to 1, as the report states it."""

    @property
    def diameter_mm(self) -> float:
        """Diameter of the ball of the same volume."""
        return diameter_mm(self.volume_mm3)


@dataclass(frozen=True, kw_only=True)
class FalseReport:
    """A lesion that the analysis reports and the truth does not have."""

    label: str
    volume_mm3: float
    certainty: float | None


@dataclass(frozen=True, kw_only=True)
class ComparedStructure:
    """A body structure that both outline."""

    label: str
    dice: float
    volume_mm3: float
    """Of the truth."""
    reported_mm3: float


@dataclass(frozen=True, kw_only=True)
class FailurePicture:
    """Where an analysis failed, on one slice."""

    caption: str
    jpeg: bytes


@dataclass(frozen=True, kw_only=True)
class CaseComparison:
    """An analysis of one series compared with its truth."""

    patient: str
    """Digest of the Patient ID, by which series of one patient are known as such."""
    scanner: str
    lesions: tuple[TruthLesion, ...] = ()
    false: tuple[FalseReport, ...] = ()
    structures: tuple[ComparedStructure, ...] = ()
    structures_alone: int = 0
    """Body structures of the truth that the analysis does not outline."""
    by_algorithms: int = 0
    """Objects of the truth that name no person."""
    pictures: tuple[FailurePicture, ...] = field(default=(), repr=False)


def diameter_mm(volume_mm3: float) -> float:
    """Diameter of the ball of this volume."""
    return float((6.0 * volume_mm3 / pi) ** (1.0 / 3.0))


def compare_with_truth(files: CaseFiles) -> CaseComparison:
    """Compare the segments of an analysis with those of the truth, by overlap.

    Raises ``InputError`` when a file cannot be read, lies on other images, or two parts outline the same lesion.
    """
    from node.feedback.segmentation_reader import overlap_pairs
    from node.feedback.truth_masks import patient_digest, truth_masks
    from node.studies.segment_masks import voxel_mm3
    from node.studies.source import SourceSeries

    try:
        source = SourceSeries.read(files.images)
        voxel = voxel_mm3(source)
        truth = truth_masks(files.parts, source, files.labels)
        own = () if files.segmentation is None else (TruthPart(path=files.segmentation),)
        ours = truth_masks(own, source)
        certainties = _certainties(files.report)
        lesions, others = _split(truth)
        reported, structures = _split(ours)
        pairs = overlap_pairs(lesions, reported)
        compared = _structures(ours, structures, truth, others, voxel)
        certain = {n: certainties.get(str(ours.items[n].get("TrackingUID") or "")) for n in reported}
        return CaseComparison(
            patient=patient_digest(source.datasets[0]),
            scanner=source.scanner,
            lesions=tuple(
                TruthLesion(
                    label=truth.label(number),
                    volume_mm3=mask.voxels * voxel,
                    hit=number in pairs,
                    dice=mask.dice(reported[pairs[number]]) if number in pairs else None,
                    reported_mm3=reported[pairs[number]].voxels * voxel if number in pairs else None,
                    certainty=certain[pairs[number]] if number in pairs else None,
                )
                for number, mask in lesions.items()
            ),
            false=tuple(
                FalseReport(label=ours.label(number), volume_mm3=mask.voxels * voxel, certainty=certain[number])
                for number, mask in reported.items()
                if number not in pairs.values()
            ),
            structures=compared,
            structures_alone=len(others) - len(compared),
            by_algorithms=truth.by_algorithms,
            pictures=_pictures(source, lesions, reported, pairs, files.pictures),
        )
    except UNREADABLE as error:
        raise InputError(f"the truth cannot be understood ({type(error).__name__}: {error})") from error


def _split(of: TruthMasks) -> tuple[dict[int, SegmentMask], dict[int, SegmentMask]]:
    """Lesions and body structures."""
    from node.feedback.segmentation_reader import is_anatomy

    lesions = {number: mask for number, mask in of.masks.items() if not is_anatomy(of.items[number])}
    return lesions, {number: mask for number, mask in of.masks.items() if number not in lesions}


def _structures(
    ours: TruthMasks,
    reported: Mapping[int, SegmentMask],
    truth: TruthMasks,
    true: Mapping[int, SegmentMask],
    voxel: float,
) -> tuple[ComparedStructure, ...]:
    """Pair body structures by label, else by their type where only one of ours has it."""
    from node.feedback.segmentation_reader import type_code

    compared = []
    for number, mask in true.items():
        same = [n for n in reported if ours.label(n).casefold() == truth.label(number).casefold()]
        if not same:
            code = type_code(truth.items[number])
            same = [n for n in reported if code[0] and type_code(ours.items[n]) == code]
        if len(same) == 1:
            other = reported[same[0]]
            compared.append(
                ComparedStructure(
                    label=ours.label(same[0]),
                    dice=mask.dice(other),
                    volume_mm3=mask.voxels * voxel,
                    reported_mm3=other.voxels * voxel,
                )
            )
    return tuple(compared)


def _certainties(report: Path | None) -> dict[str, float]:
    """Certainty by Tracking UID, 0 to 1, as the report states it."""
    from pydicom import dcmread

    from node.results.report_statement import read_statement

    if report is None:
        return {}
    return {
        finding.tracking_uid: float(measured.number) / 100.0
        for finding in read_statement(dcmread(report)).findings
        for measured in finding.measurements
        if measured.name.value == _CERTAINTY
    }


def _pictures(
    source: SourceSeries,
    lesions: Mapping[int, SegmentMask],
    reported: Mapping[int, SegmentMask],
    pairs: Mapping[int, int],
    most: int,
) -> tuple[FailurePicture, ...]:
    from node.feedback.slice_picture import draw_slice, largest_image

    outlined = ((_TRUTH, [*lesions.values()]), (_REPORTED, [*reported.values()]))
    failures = [("missed", mask) for number, mask in lesions.items() if number not in pairs]
    failures += [("reported falsely", mask) for number, mask in reported.items() if number not in pairs.values()]
    return tuple(
        FailurePicture(caption=what, jpeg=draw_slice(source, mask, largest_image(mask), outlined))
        for what, mask in failures[:most]
    )
