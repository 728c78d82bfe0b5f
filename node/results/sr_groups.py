"""Measurement groups of a report (TID 1410, 1411, 1501): one pair per finding, one for the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from highdicom.seg import Segmentation
from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    ImageRegion,
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

from node.results.analysis import Analysis, Source
from node.results.equipment import MANUFACTURER
from node.results.finding import Finding
from node.results.headers import references
from node.results.identity import plain
from node.results.measurement_items import measurement_items
from node.results.placed_region import PlacedRegion
from node.results.region_groups import region_groups
from node.results.seg import algorithm_parameters
from node.results.study_groups import Group, study_groups

_CONTAINS = RelationshipTypeValues.CONTAINS


def measurement_groups(
    analysis: Analysis,
    source: Source,
    headers: Sequence[Dataset],
    *,
    findings: Sequence[Finding],
    regions: Sequence[PlacedRegion],
    seg: Segmentation | None,
    key: str,
    image_segs: Sequence[Dataset] = (),
) -> list[Group]:
    """Return the groups of the study (``study_groups``), a planar and a volumetric one per finding, and of regions."""
    algorithm = AlgorithmIdentification(
        name=plain(analysis.algorithm.name),
        version=plain(analysis.algorithm.version) or "unknown",
        parameters=[f"{k}={v}" for k, v in algorithm_parameters(analysis.algorithm).items()] or None,
        family=analysis.algorithm.family,
        manufacturer=MANUFACTURER,
    )
    groups = study_groups(analysis, source, headers, algorithm, key, alone=not (findings or regions))
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
                measurements=measurement_items(in_plane if seg is not None else (*in_plane, *in_volume)),
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
                    measurements=measurement_items(in_volume),
                    qualitative_evaluations=judged,
                    referenced_segment=_referenced_segment(seg, finding, headers),
                )
            )
        if finding.rough:
            groups[-1][0].ContentSequence.append(TextContentItem(codes.DCM.Comment, finding.rough, _CONTAINS))
    return [*groups, *region_groups(regions, source, headers, algorithm, image_segs)]


def _referenced_segment(seg: Segmentation, finding: Finding, headers: Sequence[Dataset]) -> ReferencedSegment:
    """TID 1411 row 7 with the images the segment lies on.

    ``ReferencedSegment.from_segmentation`` looks for the segment number in every frame; highdicom itself writes it
    once for all frames when the object has one segment only.
    """
    images = [SourceImageForSegmentation(*r) for r in references(headers[i] for i in finding.mask.images)]
    return ReferencedSegment(str(seg.SOPClassUID), str(seg.SOPInstanceUID), finding.number, source_images=images)
