"""Measurement groups of a report (TID 1410, 1411, 1501): one pair per finding, one for the outcome."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from highdicom.seg import Segmentation
from highdicom.sr import (
    AlgorithmIdentification,
    ContentItem,
    FindingSite,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForRegion,
    SourceImageForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DS

from node import pipeline
from node.config.routing import Outcome
from node.pipeline import Assertion
from node.pipeline.assertion import CODES
from node.results.analysis import Analysis
from node.results.equipment import MANUFACTURER
from node.results.finding import Finding
from node.results.headers import references
from node.results.identity import plain
from node.results.report_text import headline_of, remarks_of, scope_of, supersession_of
from node.results.seg import algorithm_parameters
from node.results.uids import derive_uid
from node.wording import NOTICE, digits, sensible

_CONTAINS = RelationshipTypeValues.CONTAINS
SUMMARIES: dict[tuple[Outcome, bool], Code] = {  # CID 6047, by outcome and whether anything is present
    (Outcome.FINDINGS, True): codes.DCM.AllAlgorithmsSucceededWithFindings,
    (Outcome.NO_FINDINGS, False): codes.DCM.AllAlgorithmsSucceededWithoutFindings,
    # CID 6047 knows only with and without findings, and neither is true of these two
    (Outcome.INDETERMINATE, False): codes.SCT.IndeterminateResult,
    (Outcome.MEASURED, False): codes.SCT.Measured,
    (Outcome.PARTIAL, True): codes.DCM.NotAllAlgorithmsSucceededWithFindings,
    (Outcome.PARTIAL, False): codes.DCM.NotAllAlgorithmsSucceededWithoutFindings,
    (Outcome.NOT_APPLICABLE, False): codes.DCM.NoAlgorithmsSucceededWithoutFindings,
    (Outcome.FAILED, False): codes.DCM.NoAlgorithmsSucceededWithoutFindings,
}
STATUSES: dict[Outcome, Code] = {  # CID 6042
    Outcome.FINDINGS: codes.DCM.Succeeded,
    Outcome.NO_FINDINGS: codes.DCM.Succeeded,
    Outcome.INDETERMINATE: codes.DCM.Succeeded,
    Outcome.MEASURED: codes.DCM.Succeeded,
    Outcome.PARTIAL: codes.DCM.PartiallySucceeded,
    Outcome.NOT_APPLICABLE: codes.DCM.NotAttempted,
    Outcome.FAILED: codes.DCM.Failed,
}
_Group = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)


def measurement_groups(
    analysis: Analysis, headers: Sequence[Dataset], findings: Sequence[Finding], seg: Segmentation | None, key: str
) -> list[_Group]:
    """Return a planar and a volumetric group per finding, and one for the outcome if there is no finding."""
    algorithm = AlgorithmIdentification(
        name=plain(analysis.algorithm.name),
        version=plain(analysis.algorithm.version) or "unknown",
        parameters=[f"{k}={v}" for k, v in algorithm_parameters(analysis.algorithm).items()] or None,
        family=analysis.algorithm.family,
        manufacturer=MANUFACTURER,
    )
    present = [one for one in analysis.asserted if one.presence == "present"]
    if not findings and not present:
        return [_outcome_group(analysis, headers, algorithm, key)]
    groups: list[_Group] = [_asserted_group(one, headers, algorithm, key) for one in present]
    for finding in findings:
        shared: dict[str, Any] = {
            "tracking_identifier": TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
            "finding_type": finding.finding,
            "finding_sites": [FindingSite(finding.site, finding.laterality)] if finding.site else None,
            "algorithm_id": algorithm,
        }
        in_plane, in_volume = finding.planar(), finding.volumetric()
        judged = [QualitativeEvaluation(name, value) for name, value in finding.evaluations().items()]
        groups.append(
            PlanarROIMeasurementsAndQualitativeEvaluations(
                **shared,
                measurements=_measurements(in_plane if seg is not None else (*in_plane, *in_volume)),
                qualitative_evaluations=None if seg is not None else judged,
                referenced_region=ImageRegion(
                    "POLYLINE",
                    finding.section.outline,
                    SourceImageForRegion(*references([headers[finding.section.slice_index]])[0]),
                ),
            )
        )
        if seg is not None:
            groups.append(
                VolumetricROIMeasurementsAndQualitativeEvaluations(
                    **shared,
                    measurements=_measurements(in_volume),
                    qualitative_evaluations=judged,
                    referenced_segment=_referenced_segment(seg, finding, headers),
                )
            )
        if finding.rough:
            groups[-1][0].ContentSequence.append(TextContentItem(codes.DCM.Comment, finding.rough, _CONTAINS))
    return groups


def _referenced_segment(seg: Segmentation, finding: Finding, headers: Sequence[Dataset]) -> ReferencedSegment:
    """TID 1411 row 7 with the images the segment lies on.

    ``ReferencedSegment.from_segmentation`` looks for the segment number in every frame; highdicom itself writes it
    once for all frames when the object has one segment only.
    """
    images = [SourceImageForSegmentation(*r) for r in references(headers[i] for i in finding.mask.images)]
    return ReferencedSegment(str(seg.SOPClassUID), str(seg.SOPInstanceUID), finding.number, source_images=images)


def _measurements(measurements: Iterable[pipeline.Measurement]) -> list[Measurement] | None:
    return [_measurement(m) for m in measurements] or None


def _measurement(measured: pipeline.Measurement) -> Measurement:
    """Return a measurement rounded to its significant digits."""
    unit = measured.unit.value
    item = Measurement(measured.name, sensible(measured.value, unit), measured.unit, derivation=measured.derivation)
    item[0].MeasuredValueSequence[0].NumericValue = DS(digits(measured.value, unit))  # viewers show it as it is
    return item


def _outcome_group(
    analysis: Analysis, headers: Sequence[Dataset], algorithm: AlgorithmIdentification, key: str
) -> _Group:
    """The outcome as a finding on the whole middle image."""
    shared: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=derive_uid(key, "tracking", ""), identifier="Analysis"),
        "finding_type": SUMMARIES[analysis.outcome, analysis.positive],
        "algorithm_id": algorithm,
        "qualitative_evaluations": [QualitativeEvaluation(codes.DCM.SummaryOfAnalyses, STATUSES[analysis.outcome])],
    }
    group = _group_on_middle_image(headers, shared)
    group[0].ContentSequence.extend(comments(analysis))
    return group


def _asserted_group(
    asserted: Assertion, headers: Sequence[Dataset], algorithm: AlgorithmIdentification, key: str
) -> _Group:
    """What is said to be present without a place, as a finding on the whole middle image."""
    finding = asserted.finding
    certainty: list[pipeline.Measurement] = []
    if asserted.probability is not None:
        percent = 100 * asserted.probability
        certainty.append(
            pipeline.Measurement(name=codes.DCM.CertaintyOfFinding, value=percent, unit=codes.UCUM.Percent)
        )
    shared: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=derive_uid(key, "tracking", finding.scheme_designator, finding.value),
            identifier=plain(finding.meaning) or finding.value,
        ),
        "finding_type": finding,
        "algorithm_id": algorithm,
        "measurements": _measurements(certainty),
        "qualitative_evaluations": [QualitativeEvaluation(finding, CODES["present"])],
    }
    return _group_on_middle_image(headers, shared)


def _group_on_middle_image(headers: Sequence[Dataset], shared: dict[str, Any]) -> _Group:
    """A group with the border of the middle image as its region: viewers trip over a group without one."""
    image = headers[len(headers) // 2]
    if "Rows" in image and "Columns" in image:
        width, height = int(image.Columns), int(image.Rows)
        border = np.array([[0, 0], [width, 0], [width, height], [0, height], [0, 0]], float)
        region = ImageRegion("POLYLINE", border, SourceImageForRegion(*references([image])[0]))
        return PlanarROIMeasurementsAndQualitativeEvaluations(**shared, referenced_region=region)
    return MeasurementsAndQualitativeEvaluations(**shared)


def comments(analysis: Analysis) -> list[ContentItem]:
    """The outcome in words with its reason, the notice, what this takes the place of, the scope, the remarks."""
    texts = (
        headline_of(analysis),
        NOTICE,
        supersession_of(analysis),
        scope_of(analysis),
        *remarks_of(analysis),
    )
    return [TextContentItem(codes.DCM.Comment, plain(text, 1024), _CONTAINS) for text in texts if text]
