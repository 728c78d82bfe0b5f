"""Measurement groups of what has no mask: the study, assertions, organs and diffuse diseases.

Their region is the border of the middle image (TID 1410), since viewers show nothing of a report with a number that has
no region; without image size there is none (TID 1501).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    ContentItem,
    FindingSite,
    ImageRegion,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node import pipeline
from node.pipeline import Assertion, Findings, MeasurementGroup
from node.pipeline.assertion import CODES
from node.results.analysis import Analysis, Source
from node.results.headers import references
from node.results.identity import plain
from node.results.measurement_items import measurement_items
from node.results.region_groups import measurement_on_shapes
from node.results.report_codes import STATUSES, SUMMARIES
from node.results.report_text import headline_of, remarks_of, scope_of, supersession_of
from node.results.uids import derive_uid
from node.wording import NOTICE

_CONTAINS = RelationshipTypeValues.CONTAINS
Group = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)
_SUMMARY_OF: dict[str, Code] = {
    "absent": codes.DCM.AllAlgorithmsSucceededWithoutFindings,
    "indeterminate": codes.SCT.IndeterminateResult,
}
"""The Finding of an assertion that is not present: a reader that knows no evaluations must not take it for one."""


def study_groups(
    analysis: Analysis,
    source: Source,
    headers: Sequence[Dataset],
    algorithm: AlgorithmIdentification,
    key: str,
    *,
    alone: bool,
) -> list[Group]:
    """Return the groups that have no mask; ``alone``: no others follow, so that at least one is needed.

    What is stated to be present first. The outcome has a group where nothing is present, and where the study as a
    whole was measured; then come assertions with a probability, and what the pipeline measured without a mask.
    """
    findings = analysis.findings or Findings()
    groups = [
        _asserted(assertion, headers, algorithm, key)
        for assertion in analysis.asserted
        if assertion.presence == "present"
    ]
    if findings.measurements or (alone and not groups):
        groups.append(_outcome(analysis, headers, algorithm, key))
    groups += [
        _asserted(assertion, headers, algorithm, key)
        for assertion in analysis.asserted
        if assertion.presence != "present" and assertion.probability is not None
    ]
    return groups + [_measured(group, source, headers, algorithm, key) for group in findings.groups]


def _outcome(analysis: Analysis, headers: Sequence[Dataset], algorithm: AlgorithmIdentification, key: str) -> Group:
    """The outcome as a finding, with what was measured of the study as a whole."""
    findings = analysis.findings or Findings()
    group = _on_middle_image(
        headers,
        {
            "tracking_identifier": TrackingIdentifier(uid=derive_uid(key, "tracking", ""), identifier="Analysis"),
            "finding_type": SUMMARIES[analysis.outcome, analysis.positive],
            "algorithm_id": algorithm,
            "measurements": measurement_items(findings.measurements),
            "qualitative_evaluations": [QualitativeEvaluation(codes.DCM.SummaryOfAnalyses, STATUSES[analysis.outcome])],
        },
    )
    group[0].ContentSequence.extend(comments(analysis))
    return group


def _asserted(asserted: Assertion, headers: Sequence[Dataset], algorithm: AlgorithmIdentification, key: str) -> Group:
    """What is said without a place, with its probability and the operating point."""
    finding, presence = asserted.finding, asserted.presence
    name = plain(finding.meaning) or finding.value
    return _on_middle_image(
        headers,
        {
            "tracking_identifier": TrackingIdentifier(
                uid=derive_uid(key, "tracking", finding.scheme_designator, finding.value),
                identifier=name if presence == "present" else f"{name}: {presence}",
            ),
            "finding_type": _SUMMARY_OF.get(presence, finding),
            "algorithm_id": algorithm,
            "measurements": measurement_items(_certainty(asserted)),
            "qualitative_evaluations": [QualitativeEvaluation(finding, CODES[presence])],
        },
    )


def _certainty(asserted: Assertion) -> Iterator[pipeline.Measurement]:
    if asserted.probability is not None:
        yield _percent(codes.DCM.CertaintyOfFinding, asserted.probability)
    if asserted.operating_point is not None:
        yield _percent(codes.DCM.CADOperatingPoint, asserted.operating_point[1])


def _percent(name: Code, share: float) -> pipeline.Measurement:
    return pipeline.Measurement(name=name, value=100 * share, unit=codes.UCUM.Percent)


def _measured(
    group: MeasurementGroup,
    source: Source,
    headers: Sequence[Dataset],
    algorithm: AlgorithmIdentification,
    key: str,
) -> Group:
    side = {codes.SCT.Laterality: group.laterality} if group.laterality and not group.site else {}
    evaluations = {**side, **group.evaluations}
    shared: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=derive_uid(key, "tracking group", group.label), identifier=plain(group.label)
        ),
        "finding_type": group.finding,
        "finding_sites": [FindingSite(group.site, group.laterality)] if group.site else None,
        "algorithm_id": algorithm,
        "qualitative_evaluations": [QualitativeEvaluation(name, value) for name, value in evaluations.items()] or None,
    }
    if any(measurement.shapes for measurement in group.measurements):  # their coordinates are the place (TID 1501)
        items = [measurement_on_shapes(measurement, source, headers) for measurement in group.measurements]
        return MeasurementsAndQualitativeEvaluations(**shared, measurements=items)
    return _on_middle_image(headers, {**shared, "measurements": measurement_items(group.measurements)})


def _on_middle_image(headers: Sequence[Dataset], shared: dict[str, Any]) -> Group:
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
