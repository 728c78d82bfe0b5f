"""The Segmentation object of an analysis (PS3.3 A.51): one segment per mask, on the source grid, BINARY."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from node.errors import EncodeError
from node.pipeline import Algorithm
from node.results.analysis import Analysis, Source
from node.results.finding import Finding
from node.results.grid import label_array
from node.results.headers import describe_body_part
from node.results.identity import (
    MANUFACTURER,
    derive_uid,
    plain,
    serial_number,
    series_number,
    software_versions,
)


def algorithm_parameters(algorithm: Algorithm) -> dict[str, str]:
    """Parameters of the algorithm with the digest of its weights."""
    parameters = {plain(k): plain(v, 256) for k, v in algorithm.parameters.items()}
    if algorithm.weights_sha256:
        parameters["weights_sha256"] = algorithm.weights_sha256
    return parameters


def encode_seg(
    analysis: Analysis, source: Source, headers: Sequence[Dataset], *, findings: Sequence[Finding], key: str
) -> Segmentation:
    """Build the SEG; identity and times are stamped on later. Raises ``EncodeError``.

    ``headers``: as ``headers_for_highdicom`` makes them with the geometry.
    """
    description = plain(f"AI {analysis.pipeline} segmentation")
    parameters = algorithm_parameters(analysis.algorithm)
    algorithm = AlgorithmIdentificationSequence(
        name=plain(analysis.algorithm.name),
        family=analysis.algorithm.family,
        version=plain(analysis.algorithm.version) or "unknown",
        source=MANUFACTURER,
        parameters=parameters or None,
    )
    try:
        seg = Segmentation(
            source_images=headers,
            pixel_array=label_array([f.mask for f in findings], (len(headers), headers[0].Rows, headers[0].Columns)),
            segmentation_type="BINARY",
            segment_descriptions=[_description(f, algorithm) for f in findings],
            series_instance_uid=derive_uid(key, "SEG series"),
            series_number=series_number(source, 1),
            sop_instance_uid=derive_uid(key, "SEG"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=plain(analysis.algorithm.name),
            software_versions=software_versions(analysis)[0],
            device_serial_number=serial_number(analysis),
            content_label="SEGMENTATION",
            content_description=description,
            content_creator_name=plain(analysis.algorithm.name.replace("^", " ").replace("=", " "), 60) + "^",
            series_description=description,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=True,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EncodeError(f"SEG of pipeline {analysis.pipeline} cannot be built: {error}") from error
    organization = derive_uid(key, "SEG dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    describe_body_part(seg, source)
    return seg


def _description(finding: Finding, algorithm: AlgorithmIdentificationSequence) -> SegmentDescription:
    segment = finding.segment
    description = SegmentDescription(
        segment_number=finding.number,
        segment_label=plain(segment.label),
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=finding.tracking_uid,
        tracking_id=finding.tracking_id,
        anatomic_regions=None if finding.site is None else [finding.site],
        display_color=CIELabColor.from_rgb(*segment.colour),
    )
    if finding.site is not None and finding.laterality is not None:
        region: Dataset = description.AnatomicRegionSequence[0]
        region.AnatomicRegionModifierSequence = [CodedConcept.from_code(finding.laterality)]
    return description
