"""The report of an analysis: Comprehensive 3D SR, TID 1500 Imaging Measurement Report (PS3.16).

Per finding two measurement groups with the same tracking UID: a planar one with the outline on the slice of greatest
area, which viewers draw, and a volumetric one that refers to the segment. The outcome stands under Qualitative
Evaluations in every report; without findings it is also the one measurement group, so that it is never ambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.seg import Segmentation
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.errors import EncodeError, InputError
from node.pipeline.assertion import CODES
from node.results.analysis import Analysis, Kind, Source
from node.results.equipment import MANUFACTURER, serial_number
from node.results.finding import Finding
from node.results.headers import by_instance
from node.results.identity import plain
from node.results.impression.content_items import impression_items
from node.results.naming import series_description, series_number
from node.results.placed_region import PlacedRegion
from node.results.report_codes import STATUSES, SUMMARIES
from node.results.root_report import EncodedReference, supplementary_data
from node.results.sr_groups import measurement_groups
from node.results.sr_images import evidence_of, image_library
from node.results.study_groups import comments
from node.results.uids import derive_uid, device_uid

_CONTAINS = RelationshipTypeValues.CONTAINS
_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")  # TID 1500
_PROCEDURES = {  # CID 100
    "CT": codes.cid100.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "PT": codes.cid100.PETUnspecifiedBodyRegion,
    "NM": codes.cid100.NMUnspecifiedBodyRegion,
    "MG": codes.cid100.XRUnspecifiedBodyRegion,
    "CR": codes.cid100.XRUnspecifiedBodyRegion,
    "DX": codes.cid100.XRUnspecifiedBodyRegion,
    "XA": codes.cid100.Angiography,
}


def encode_sr(
    analysis: Analysis,
    source: Source,
    headers: Sequence[Dataset],
    *,
    findings: Sequence[Finding],
    regions: Sequence[PlacedRegion],
    seg: Segmentation | None,
    others: Sequence[EncodedReference],
    key: str,
    kind: Kind,
    image_segs: Sequence[Dataset] = (),
) -> Comprehensive3DSR:
    """Build the SR; ``seg`` holds the segments of ``findings``. Identity and times are stamped on later.

    ``None``: for who gets no segmentation; the planar groups then say everything. ``others``: the objects of this
    analysis that the report ties together, ``seg`` among them. ``image_segs``: those of regions with a mask.
    ``headers``: as ``headers_for_highdicom`` makes them.
    """
    try:
        report = report_content(
            analysis, source, headers, findings=findings, regions=regions, seg=seg, key=key, image_segs=image_segs
        )
        content: ContentSequence = report[0].ContentSequence
        place = len(content) - 2  # before measurements and evaluations
        if others:
            content.append(supplementary_data(others))
        evidence = [*by_instance(headers).values(), *(dataset for _, dataset in others)]
        document = Comprehensive3DSR(
            evidence=evidence,
            content=report[0],
            series_instance_uid=derive_uid(key, kind, "series"),
            series_number=series_number(analysis, source, 2),
            sop_instance_uid=derive_uid(key, kind),
            instance_number=1,
            manufacturer=MANUFACTURER,
            series_description=series_description(analysis, source, "report"),
            is_complete=True,
            is_final=False,
        )
        # afterwards, and as plain data sets: highdicom copies and searches the content several times over
        items = list(document.ContentSequence)
        document.ContentSequence = [*items[:place], image_library(source, headers), *items[place:]]
        listed = evidence_of(evidence)
        document[listed.tag] = listed
    except (ValueError, InputError) as error:  # what highdicom says of values; anything else is a fault of ours
        raise EncodeError(f"SR of pipeline {analysis.pipeline} cannot be built: {error}") from error
    return document


def report_content(
    analysis: Analysis,
    source: Source,
    headers: Sequence[Dataset],
    *,
    findings: Sequence[Finding],
    regions: Sequence[PlacedRegion],
    seg: Segmentation | None,
    key: str,
    image_segs: Sequence[Dataset] = (),
) -> MeasurementReport:
    """Return what the report states, without lists of images and objects; arguments as of ``encode_sr``."""
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer(analysis)),
        procedure_reported=_PROCEDURES.get(source.modality, codes.SCT.ImagingProcedure),
        imaging_measurements=measurement_groups(
            analysis, source, headers, findings=findings, regions=regions, seg=seg, key=key, image_segs=image_segs
        ),
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept("en-US", "RFC5646", "English (United States)")
        ),
    )
    evaluations = _evaluations(analysis)
    report[0].ContentSequence.append(evaluations)
    character_set = source.datasets[0].get("SpecificCharacterSet")
    evaluations.ContentSequence.extend(impression_items(report[0], analysis.languages, character_set))
    return report


def observer(analysis: Analysis) -> ObserverContext:
    """Return the observer: pipeline, algorithm and weights as a device."""
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(analysis),
            name=plain(analysis.title),
            manufacturer_name=MANUFACTURER,
            model_name=plain(analysis.algorithm.name),
            serial_number=serial_number(analysis),
        ),
    )


def _evaluations(analysis: Analysis) -> ContainerContentItem:
    summary = SUMMARIES[analysis.outcome, analysis.positive]
    judged = dict(analysis.findings.evaluations) if analysis.findings else {}
    judged |= {
        assertion.finding: CODES[assertion.presence]
        for assertion in analysis.asserted
        if assertion.finding not in judged
    }
    container = ContainerContentItem(name=QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    container.ContentSequence = ContentSequence(
        [
            CodeContentItem(codes.DCM.CADProcessingAndFindingsSummary, summary, _CONTAINS),
            CodeContentItem(codes.DCM.SummaryOfAnalyses, STATUSES[analysis.outcome], _CONTAINS),
            *(CodeContentItem(name, value, _CONTAINS) for name, value in judged.items()),
            *comments(analysis),
        ]
    )
    return container
