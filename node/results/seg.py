"""The Segmentation object of an analysis (PS3.3 A.51): one segment per mask, on the source grid."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

import numpy as np
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence, PlaneOrientationSequence, VolumeGeometry
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from node.errors import EncodeError
from node.pipeline import Algorithm
from node.results.analysis import Analysis, Source
from node.results.encoded_elements import encoded, raw_sequence, reference
from node.results.equipment import MANUFACTURER, serial_number, software_versions
from node.results.finding import Finding
from node.results.headers import as_single, describe_body_part, references
from node.results.identity import noted, plain
from node.results.naming import series_description, series_number
from node.results.seg_frames import frames_of, functional_groups, overlap, packed
from node.results.uids import derive_uid


def algorithm_parameters(algorithm: Algorithm) -> dict[str, str]:
    """Parameters of the algorithm with the digest of its weights."""
    parameters = {plain(k): plain(v, 256) for k, v in algorithm.parameters.items()}
    if algorithm.weights_sha256:
        parameters["weights_sha256"] = algorithm.weights_sha256
    return parameters


def encode_seg(
    analysis: Analysis,
    source: Source,
    headers: Sequence[Dataset],
    *,
    findings: Sequence[Finding],
    key: str,
    kind: Literal["seg", "labelmap"] = "seg",
) -> Segmentation:
    """Build the SEG; identity and times are stamped on later. Raises ``EncodeError``.

    ``headers``: as ``headers_for_highdicom`` makes them with the geometry. A label map holds one number in each
    voxel: where segments overlap it becomes BINARY all the same.
    """
    rows, columns = int(headers[0].Rows), int(headers[0].Columns)
    overlapping = overlap(findings, (rows, columns))
    common = seg_modules(analysis, source, key, kind)
    algorithm = algorithm_identification(analysis.algorithm)
    common["segment_descriptions"] = [_description(f, algorithm) for f in findings]
    if kind == "labelmap" and not overlapping:
        return _label_map(common, source, headers, findings, key)
    try:
        seg = Segmentation(
            source_images=[one_pixel(headers[0])],
            pixel_array=np.ones((1, 1, 1, len(findings)), np.bool_),
            segmentation_type="BINARY",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **common,
        )
    except ValueError as error:  # what highdicom says of values; anything else is a fault of ours
        raise EncodeError(f"SEG of pipeline {analysis.pipeline} cannot be built: {error}") from error
    name_dimensions(seg, derive_uid(key, kind, "dimensions"))
    describe_body_part(seg, source)
    refer_to_images(seg, source, headers)
    frames = frames_of(findings)
    seg.Rows, seg.Columns, seg.NumberOfFrames = rows, columns, len(frames)
    seg.SegmentsOverlap = "YES" if overlapping else "NO"
    seg.SharedFunctionalGroupsSequence = [_shared(headers[0], source.geometry)]
    groups = functional_groups(frames, headers)
    seg[groups.tag] = groups
    seg["PixelData"].value = packed(frames, rows, columns)
    return seg


def algorithm_identification(algorithm: Algorithm) -> AlgorithmIdentificationSequence:
    """Who made the segments."""
    return AlgorithmIdentificationSequence(
        name=plain(algorithm.name),
        family=algorithm.family,
        version=plain(algorithm.version) or "unknown",
        source=MANUFACTURER,
        parameters=algorithm_parameters(algorithm) or None,
    )


def seg_modules(analysis: Analysis, source: Source, key: str, kind: str) -> dict[str, Any]:
    """The arguments for highdicom that are common to all forms, without the segments."""
    return {
        "series_instance_uid": derive_uid(key, kind, "series"),
        "series_number": series_number(analysis, source, 1 if kind == "seg" else 94),
        "sop_instance_uid": derive_uid(key, kind),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": plain(analysis.algorithm.name),
        "software_versions": software_versions(analysis)[0],
        "device_serial_number": serial_number(analysis),
        "content_label": "SEGMENTATION",
        "content_description": noted(f"AI {analysis.title}"),
        "content_creator_name": plain(analysis.algorithm.name.replace("^", " ").replace("=", " "), 60) + "^",
        "series_description": series_description(analysis, source, "segments" if kind == "seg" else "label map"),
    }


def _label_map(
    common: dict[str, Any], source: Source, headers: Sequence[Dataset], findings: Sequence[Finding], key: str
) -> Segmentation:
    """One number per voxel, run-length encoded: a hundredth of the size of twenty BINARY segments."""
    shape = (len(headers), int(headers[0].Rows), int(headers[0].Columns))
    labels = np.zeros(shape, np.uint8 if len(findings) < 256 else np.uint16)
    for finding in findings:
        labels[finding.mask.box][finding.mask.voxels] = finding.number
    try:
        seg = Segmentation(
            source_images=[as_single(header) for header in headers],
            pixel_array=labels,
            segmentation_type="LABELMAP",
            transfer_syntax_uid=RLELossless,
            **common,
        )
    except ValueError as error:  # what highdicom says of values; anything else is a fault of ours
        raise EncodeError(f"label map cannot be built: {error}") from error
    # viewers number the colours from the first item: Background, number 0, goes last
    seg.SegmentSequence = sorted(seg.SegmentSequence, key=lambda s: (s.SegmentNumber == 0, s.SegmentNumber))
    name_dimensions(seg, derive_uid(key, "labelmap", "dimensions"))
    describe_body_part(seg, source)
    return seg


def name_dimensions(seg: Segmentation, uid: str) -> None:
    """Give the dimensions a derived UID in place of the random one of highdicom."""
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def one_pixel(header: Dataset) -> Dataset:
    """Return a one-pixel stand-in for the series: highdicom builds the modules, this module the frames."""
    pattern = deepcopy(header)
    pattern.SOPClassUID = CTImageStorage  # of any class: highdicom needs one without frames of its own
    pattern.Rows = pattern.Columns = 1
    return pattern


def refer_to_images(seg: Segmentation, source: Source, headers: Sequence[Dataset]) -> None:
    """Name the source images, of which ``headers`` are, in the modules of the whole object."""
    items = [reference(sop_class, uid) for sop_class, uid, _ in references(headers)]
    instances = raw_sequence("ReferencedInstanceSequence", items)
    series = Dataset()
    series[instances.tag] = instances
    series.SeriesInstanceUID = source.series_instance_uid
    images = raw_sequence("SourceImageSequence", items)
    seg[images.tag] = images
    referenced = raw_sequence("ReferencedSeriesSequence", [encoded(series)])
    seg[referenced.tag] = referenced


def _shared(header: Dataset, geometry: VolumeGeometry) -> Dataset:
    """Orientation and pixel measures of every frame."""
    measures = PixelMeasuresSequence(
        pixel_spacing=[float(v) for v in header.PixelSpacing],
        slice_thickness=float(header.SliceThickness),
        spacing_between_slices=round(float(np.linalg.norm(geometry.affine[:3, 0])), 6),
    )
    group = Dataset()
    group.PlaneOrientationSequence = PlaneOrientationSequence(
        "PATIENT", [float(v) for v in header.ImageOrientationPatient]
    )
    group.PixelMeasuresSequence = measures
    return group


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
        anatomic_regions=[finding.site] if finding.lesion and finding.site is not None else None,
        display_color=CIELabColor.from_rgb(*finding.colour),
    )
    if finding.site is not None and finding.laterality is not None:
        side = [CodedConcept.from_code(finding.laterality)]
        if finding.lesion:
            description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = side
        else:
            description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = side
    return description
