"""What a report (TID 1500) states, as values: outcome, findings with their place and measurements, evaluations.

Sentences and FHIR resources are made from these values, so that they cannot say anything else than the report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from node.errors import InputError
from node.outcome import Outcome
from node.results.report_codes import PRESENCES, STATUSES, SUMMARIES
from node.results.report_items import concept_value, is_border, measurement_groups
from node.studies.pydicom_errors import UNREADABLE

_TRACKING_ID, _TRACKING_UID = "112039", "112040"
_FINDING, _SITE, _LATERALITY, _DERIVATION = "121071", "363698007", "272741003", "121401"
_SUMMARY, _STATUS, _EVALUATIONS = "111017", "111065", "C0034375"
_ALGORITHM, _VERSION, _SEGMENT = "111001", "111003", "121191"
_PROCEDURE = "121058"
"""Code values of DCM, SCT and UMLS in TID 1500, 1410, 1411, 1419 and 4019 (PS3.16)."""
_OUTCOMES = {(summary, STATUSES[outcome]): outcome for (outcome, _), summary in SUMMARIES.items()}


class StatedRegion(NamedTuple):
    """An object that a finding is in: a segment of a segmentation, or an image that a region was drawn on."""

    sop_class_uid: str
    sop_instance_uid: str
    segment: int | None


class MeasuredValue(NamedTuple):
    """One number of a report."""

    name: Code
    number: str
    """Numeric Value (0040,A30A) as it is written."""
    unit: Code
    derivation: Code | None


@dataclass(kw_only=True)
class StatedFinding:
    """One measurement group, or the two groups of one finding."""

    tracking_uid: str
    label: str = ""
    finding: Code | None = None
    site: Code | None = None
    laterality: Code | None = None
    measurements: list[MeasuredValue] = field(default_factory=list)
    evaluations: dict[Code, Code] = field(default_factory=dict)
    has_region: bool = False
    """It has a place of its own on an image, in the patient or in a segmentation."""
    regions: list[StatedRegion] = field(default_factory=list)
    """Without those that only coordinates in the patient give."""

    @property
    def asserted(self) -> tuple[Code, Code] | None:
        """A finding without a place, and whether it is present, where the group says that."""
        return (
            None if self.has_region else next((pair for pair in self.evaluations.items() if is_presence(pair[1])), None)
        )


@dataclass(frozen=True, kw_only=True)
class ReportStatement:
    """What a report states."""

    outcome: Outcome
    summary: Code
    """Findings summary (CID 6047)."""
    algorithm: tuple[str, str]
    """Name and version."""
    procedure: Code | None
    """Procedure reported."""
    findings: tuple[StatedFinding, ...]
    """In the order of the report."""
    evaluations: dict[Code, Code]
    """Of the images as a whole, without the outcome."""


def read_statement(report: Dataset) -> ReportStatement:
    """Read a report of this node. Raises ``InputError`` when it is none."""
    try:
        return _read(report)
    except (KeyError, StopIteration, *UNREADABLE) as error:
        raise InputError(f"the report cannot be understood ({type(error).__name__})") from error


def _read(report: Dataset) -> ReportStatement:
    evaluations = {
        _name(item): _value(item)
        for container in report.ContentSequence
        if concept_value(container) == _EVALUATIONS
        for item in container.ContentSequence
        if item.ValueType == "CODE"
    }
    stated = {name.value: value for name, value in evaluations.items()}
    findings: dict[str, StatedFinding] = {}
    texts: dict[str, str] = {}
    for group in measurement_groups(report):
        items = list(group.get("ContentSequence", ()))
        uid = next(str(item.UID) for item in items if concept_value(item) == _TRACKING_UID)
        finding = findings.setdefault(uid, StatedFinding(tracking_uid=uid))
        for item in items:
            _take(finding, item)
            if item.ValueType == "TEXT":
                texts.setdefault(concept_value(item), str(item.TextValue))
    procedures = (_value(item) for item in report.ContentSequence if concept_value(item) == _PROCEDURE)
    return ReportStatement(
        outcome=_OUTCOMES[stated[_SUMMARY], stated[_STATUS]],
        summary=stated[_SUMMARY],
        algorithm=(texts.get(_ALGORITHM, ""), texts.get(_VERSION, "")),
        procedure=next(procedures, None),
        findings=tuple(findings.values()),
        evaluations={k: v for k, v in evaluations.items() if k.value not in (_SUMMARY, _STATUS)},
    )


def _take(finding: StatedFinding, item: Dataset) -> None:
    concept = concept_value(item)
    if concept == _TRACKING_ID:
        finding.label = str(item.TextValue)
    elif concept == _FINDING and item.ValueType == "CODE":
        finding.finding = _value(item)
    elif concept == _SITE:
        finding.site = _value(item)
        finding.laterality = next(_inner(item, _LATERALITY), finding.laterality)
    elif concept == _LATERALITY:
        finding.laterality = _value(item)
    elif item.ValueType in ("SCOORD", "SCOORD3D"):
        if not is_border(item):
            finding.has_region = True
            finding.regions += [
                _region(image) for image in item.get("ContentSequence", ()) if image.ValueType == "IMAGE"
            ]
    elif concept == _SEGMENT:
        finding.has_region = True
        finding.regions.append(_region(item))
    elif item.ValueType == "NUM" and item.get("MeasuredValueSequence"):
        measured = item.MeasuredValueSequence[0]
        unit = _coded(measured.MeasurementUnitsCodeSequence[0])
        number = str(measured.NumericValue)
        finding.measurements.append(MeasuredValue(_name(item), number, unit, next(_inner(item, _DERIVATION), None)))
    elif item.ValueType == "CODE" and item.get("RelationshipType") == "CONTAINS":
        finding.evaluations[_name(item)] = _value(item)


def _region(image: Dataset) -> StatedRegion:
    referenced = image.ReferencedSOPSequence[0]
    segment = referenced.get("ReferencedSegmentNumber")
    return StatedRegion(
        str(referenced.ReferencedSOPClassUID),
        str(referenced.ReferencedSOPInstanceUID),
        None if segment is None else int(segment),
    )


def is_presence(value: Code) -> bool:
    """Return whether a value says that something is present, absent or indeterminate."""
    return value.scheme_designator == "SCT" and value.value in PRESENCES


def _inner(item: Dataset, concept: str) -> Iterator[Code]:
    return (_value(child) for child in item.get("ContentSequence", ()) if concept_value(child) == concept)


def _name(item: Dataset) -> Code:
    return _coded(item.ConceptNameCodeSequence[0])


def _value(item: Dataset) -> Code:
    return _coded(item.ConceptCodeSequence[0])


def _coded(item: Dataset) -> Code:
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    return Code(str(value), str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeMeaning", "")))
