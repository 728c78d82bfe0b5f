"""Findings of a TID 1500 report as a table, read from the SR itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from node.config import Language
from node.errors import InputError
from node.results.report_items import concept_value, is_border, measurement_groups
from node.studies.header import read_header
from node.studies.pydicom_errors import UNREADABLE
from node.wording import quantity

_TRACKING_ID, _TRACKING_UID = "112039", "112040"
_FINDING, _FINDING_SITE, _LATERALITY = "121071", "363698007", "272741003"
_DERIVATION = "121401"
_QUALITATIVE_EVALUATIONS, _COMMENT = "C0034375", "121106"
"""Code values of DCM and SCT in TID 1410, 1411 and 1419 (PS3.16)."""

_NO_REPORT = "is no report that this node wrote; restore the file"


@dataclass(kw_only=True)
class Row:
    """One finding."""

    tracking_uid: str
    label: str = ""
    finding: str = ""
    site: str = ""
    measurements: dict[str, str] = field(default_factory=dict)
    """Name -> value with unit."""
    has_region: bool = False
    """It has a place of its own on an image or in the patient."""
    remarks: list[str] = field(default_factory=list)
    """Qualitative evaluations and comments, such as how far its size can be trusted."""


def findings_in(path: Path) -> list[Row]:
    """Findings of a report in its order; groups of the same Tracking UID are one finding.

    Raises ``InputError`` when the file cannot be read.
    """
    try:
        return _rows(read_header(path))
    except UNREADABLE as error:
        raise InputError(f"{path.name}: {_NO_REPORT} ({type(error).__name__})") from error


def _rows(report: Dataset) -> list[Row]:
    rows: dict[str, Row] = {}
    for group in measurement_groups(report):
        items = list(group.get("ContentSequence", ()))
        uid = next((str(i.UID) for i in items if concept_value(i) == _TRACKING_UID), "")
        row = rows.setdefault(uid, Row(tracking_uid=uid))
        for item in items:
            _take(row, item)
    return [row for row in rows.values() if row.measurements or row.has_region]


def comments_in(path: Path) -> tuple[str, ...]:
    """Return the comments of a report in its order: outcome, notice, scope, remarks.

    Raises ``InputError`` when the file cannot be read.
    """
    try:
        judged = (
            c for c in read_header(path).get("ContentSequence", ()) if concept_value(c) == _QUALITATIVE_EVALUATIONS
        )
        items = (item for container in judged for item in container.get("ContentSequence", ()))
        return tuple(
            str(item.TextValue) for item in items if concept_value(item) == _COMMENT and item.ValueType == "TEXT"
        )
    except UNREADABLE as error:
        raise InputError(f"{path.name}: {_NO_REPORT} ({type(error).__name__})") from error


def impressions_in(path: Path, languages: Iterable[Language]) -> dict[str, str]:
    """Return the impression of a report by language. Raises ``InputError`` when the file is no report of this node."""
    from node.results.impression.sentences import impression_of

    report = read_header(path)
    return {language: impression_of(report, language) for language in languages}


def _take(row: Row, item: Dataset) -> None:
    code = concept_value(item)
    if code == _TRACKING_ID:
        row.label = str(item.TextValue)
    elif code == _FINDING and item.ValueType == "CODE":
        row.finding = _meaning(item)
    elif code == _FINDING_SITE:
        sides = [_meaning(inner) for inner in item.get("ContentSequence", ()) if concept_value(inner) == _LATERALITY]
        row.site = ", ".join([_meaning(item), *(side.lower() for side in sides)])
    elif item.ValueType in ("SCOORD", "SCOORD3D"):
        row.has_region = row.has_region or not is_border(item)
    elif item.ValueType == "NUM" and item.get("MeasuredValueSequence"):
        measured = item.MeasuredValueSequence[0]
        unit = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
        how = [
            _meaning(inner).lower() for inner in item.get("ContentSequence", ()) if concept_value(inner) == _DERIVATION
        ]
        name = ", ".join([str(item.ConceptNameCodeSequence[0].CodeMeaning), *how])
        row.measurements[name] = quantity(float(measured.NumericValue), unit)
    elif item.get("RelationshipType") == "CONTAINS" and item.ValueType in ("CODE", "TEXT"):
        value = _meaning(item) if item.ValueType == "CODE" else str(item.TextValue)
        remark = value if code == _COMMENT else f"{item.ConceptNameCodeSequence[0].CodeMeaning}: {value}"
        if remark not in row.remarks:
            row.remarks.append(remark)


def _meaning(item: Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeMeaning)
