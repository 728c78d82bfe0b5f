"""Prior analyses, read from this node's reports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
from highdicom import Volume
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.errors import InputError
from node.pipeline import Prior, PriorFinding
from node.results.equipment import MANUFACTURER
from node.results.headers import frame_key
from node.results.identity import plain
from node.results.prior.growth_text import parameters_of
from node.results.prior.masks import middle_mm
from node.results.report_items import is_border
from node.studies.attribute_values import day
from node.studies.attributes import SEGMENTATIONS
from node.studies.pydicom_errors import UNREADABLE
from node.studies.source import SourceSeries

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_DEVICE_NAME = codes.DCM.DeviceObserverName
_MEASURED = (codes.DCM.ImagingMeasurements, codes.DCM.MeasurementGroup)


def _understood(read: Callable[Concatenate[Dataset, P], R]) -> Callable[Concatenate[Dataset, P], R]:
    """``read`` with ``InputError`` for a report that lacks what it needs, or states what no VR allows."""

    @wraps(read)
    def reading(report: Dataset, /, *arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            return read(report, *arguments, **keywords)
        except UNREADABLE as error:
            raise InputError(
                f"earlier report: cannot be understood ({type(error).__name__}); nothing is compared with it"
            ) from error

    return reading


def latest_report(reports: Sequence[Dataset], names: Collection[str]) -> Dataset | None:
    """The latest of this node's reports by the pipeline with one of these ``names``; ``None``: there is none.

    It says whether something was found: reports of analyses that failed or were not applicable are passed over, and
    those of other makers, and those that cannot be understood.
    """
    own = [report for report in reports if _is_usable(report, names)]
    return max(own, key=_moment, default=None)


@_understood
def read_prior(
    report: Dataset, images: SourceSeries | None = None, masks: Mapping[str, Volume] | None = None
) -> Prior | None:
    """Read the analysis that a report of this node describes; ``None`` without a Study Date.

    ``None`` as well for one with regions: findings without a volume are not compared, and none must seem to be missing.

    Raises ``InputError`` when it cannot be understood. ``images``: those that were analysed then; ``masks``: what was
    outlined, by Tracking UID. Without either nobody knows where the findings lay.
    """
    masks = masks or {}
    groups: dict[str, list[Dataset]] = {}  # outline and segment of a lesion have a group each
    for group in _groups(report):
        for item in _children(group, codes.DCM.TrackingUniqueIdentifier):
            groups.setdefault(str(item.UID), []).append(group)
    parsed = (_finding(uid, of, images, masks.get(uid)) for uid, of in groups.items())
    findings = tuple(finding for finding in parsed if finding is not None)
    versions = [str(i.TextValue) for g in _groups(report) for i in _children(g, codes.DCM.AlgorithmVersion)]
    then = day(report.get("StudyDate"))
    if then is None or not versions or any(_has_region(of) for of in groups.values()):
        return None
    parameters = [str(i.TextValue) for g in _groups(report) for i in _children(g, codes.DCM.AlgorithmParameters)]
    return Prior(
        study_date=then,
        version=versions[0],
        findings=findings,
        series=images,
        partial=_status(report, (codes.DCM.PartiallySucceeded,)),
        parameters=parameters_of(parameters),
    )


@_understood
def analysed_series(report: Dataset) -> str:
    """Series Instance UID of the images on which a report outlines its findings; ``""`` when it has none."""
    images = {
        str(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for group in _groups(report)
        if _children(group, codes.SCT.LongAxis)
        for image, _ in _outlines(group)
    }
    for study in report.get("CurrentRequestedProcedureEvidenceSequence") or []:
        for series in study.ReferencedSeriesSequence:
            if images & {str(instance.ReferencedSOPInstanceUID) for instance in series.ReferencedSOPSequence}:
                return str(series.SeriesInstanceUID)
    return ""


@_understood
def referenced_segmentation(report: Dataset) -> tuple[str, str]:
    """Series and SOP Instance UID of the Segmentation of its findings; ``("", "")`` when it has none."""
    for study in report.get("CurrentRequestedProcedureEvidenceSequence") or []:
        for series in study.ReferencedSeriesSequence:
            for instance in series.ReferencedSOPSequence:
                if instance.ReferencedSOPClassUID in SEGMENTATIONS:
                    return str(series.SeriesInstanceUID), str(instance.ReferencedSOPInstanceUID)
    return "", ""


def _finding(
    tracking_uid: str, groups: Sequence[Dataset], images: SourceSeries | None, mask: Volume | None
) -> PriorFinding | None:
    volumes = [_number(item) for group in groups for item in _children(group, codes.SCT.Volume)]
    kinds = [_code(item) for group in groups for item in _children(group, codes.DCM.Finding)]
    outlined = any(_children(g, name) for g in groups for name in (codes.SCT.LongAxis, codes.DCM.ReferencedSegment))
    if not outlined or not volumes or volumes[0] is None or not kinds or kinds[0] is None:
        return None  # the volume of an organ that has no mask is no finding
    outlines = [outline for group in groups for outline in _outlines(group)]
    place = _place(*outlines[0], images) if outlines and images is not None else None
    if place is None and mask is not None:
        x, y, z = middle_mm(mask)
        place = float(x), float(y), float(z)
    sure = [_number(item) for group in groups for item in _children(group, codes.DCM.CertaintyOfFinding)]
    return PriorFinding(
        finding=kinds[0],
        volume_mm3=volumes[0],
        tracking_uid=tracking_uid,
        place_mm=place,
        mask=mask,
        probability=sure[0] / 100 if sure and sure[0] is not None else None,
    )


def _has_region(groups: Sequence[Dataset]) -> bool:
    """Whether it is a finding with a shape and no mask; the border of an image is a place for what has none."""
    if any(_children(g, name) for g in groups for name in (codes.SCT.LongAxis, codes.DCM.ReferencedSegment)):
        return False
    return any(not is_border(shape) for group in groups for shape in _children(group, codes.DCM.ImageRegion))


def _outlines(group: Dataset) -> list[tuple[Dataset, Dataset]]:
    """The image and the outline on it."""
    return [
        (child, outline)
        for outline in _children(group, codes.DCM.ImageRegion)
        for child in _inner(outline)
        if child.get("ValueType") == "IMAGE"
    ]


def _place(image: Dataset, outline: Dataset, images: SourceSeries) -> tuple[float, float, float] | None:
    """The middle of the box round an outline, LPS mm."""
    key = frame_key(image.ReferencedSOPSequence[0])
    index = next((i for i, header in enumerate(images.datasets) if frame_key(header, "SOPInstanceUID") == key), None)
    if index is None or images.grid.affine is None:
        return None
    points = np.array(outline.GraphicData, float).reshape(-1, 2)
    column, row = (points.min(axis=0) + points.max(axis=0)) / 2.0 - 0.5  # 0.5 is the centre of the first pixel
    above, left = images.offsets[index] if images.offsets else (0, 0)
    x, y, z, _ = images.grid.affine @ (float(index), row + above, column + left, 1.0)
    return float(x), float(y), float(z)


def _is_usable(report: Dataset, names: Collection[str]) -> bool:
    """Whether it is ours, and ``read_prior`` and the references to its images can be read."""
    try:
        if not (_is_ours(report, names) and _succeeded(report)):
            return False
        _moment(report)
        _ = report.StudyInstanceUID, report.SOPInstanceUID
        analysed_series(report)
        referenced_segmentation(report)
        read_prior(report)
    except (InputError, *UNREADABLE) as error:
        logger.warning("an earlier report cannot be understood (%s) and is passed over", type(error).__name__)
        return False
    return True


def _moment(report: Dataset) -> tuple[str, str]:
    return str(report.get("ContentDate")), str(report.get("ContentTime"))


def _is_ours(report: Dataset, names: Collection[str]) -> bool:
    observers = {str(item.get("TextValue", "")) for item in _children(report, _DEVICE_NAME)}
    return str(report.get("Manufacturer", "")) == MANUFACTURER and not observers.isdisjoint(map(plain, names))


def _succeeded(report: Dataset) -> bool:
    return _status(report, (codes.DCM.Succeeded, codes.DCM.PartiallySucceeded))


def _status(report: Dataset, wanted: Collection[Code]) -> bool:
    """Whether the report says that the analysis ended in one of these ways (CID 6042)."""
    items = [item for container in report.get("ContentSequence") or [] for item in [container, *_inner(container)]]
    stated = [_code(item) for item in items if _is_named(item, codes.DCM.SummaryOfAnalyses)]
    return any(code in wanted for code in stated if code is not None)


def _groups(report: Dataset) -> Iterator[Dataset]:
    for container in _children(report, _MEASURED[0]):
        yield from _children(container, _MEASURED[1])


def _inner(item: Dataset) -> Sequence[Dataset]:
    return item.get("ContentSequence") or []


def _children(item: Dataset, name: Code) -> list[Dataset]:
    return [child for child in _inner(item) if _is_named(child, name)]


def _is_named(item: Dataset, name: Code) -> bool:
    stated = _name(item)  # an item below another may have none, and a Code cannot be compared with that
    return stated is not None and stated == name


def _name(item: Dataset) -> Code | None:
    return _coded(item.get("ConceptNameCodeSequence"))


def _code(item: Dataset) -> Code | None:
    return _coded(item.get("ConceptCodeSequence"))


def _coded(sequence: Sequence[Dataset] | None) -> Code | None:
    if not sequence:
        return None
    first = sequence[0]
    value, scheme = first.get("CodeValue"), first.get("CodingSchemeDesignator")
    return Code(str(value), str(scheme), str(first.get("CodeMeaning"))) if value and scheme else None


def _number(item: Dataset) -> float | None:
    measured = item.get("MeasuredValueSequence")
    return float(measured[0].NumericValue) if measured else None
