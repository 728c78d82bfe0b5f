"""Whether a report (TID 1500) holds a measurement that makes its result urgent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from node.config.escalation import MeasurementLimit
from node.config.rule_condition import folded
from node.results.report_items import concept_value, measurement_groups

_TRACKING_ID = "112039"


@dataclass(frozen=True, kw_only=True)
class UrgentMeasurement:
    """The first measurement beyond a limit, as the report states it."""

    limit: str
    measurement: str
    value: str
    unit: str
    finding: str
    """Tracking Identifier of its group; empty when it is of the whole series."""


def urgent_measurement(report: Dataset, limits: Sequence[MeasurementLimit]) -> UrgentMeasurement | None:
    """Return the first measurement beyond one of ``limits``, in the order of the report; ``None``: there is none."""
    for finding, item in _numbers(report):
        name = item.ConceptNameCodeSequence[0]
        measured = item.MeasuredValueSequence[0]
        unit = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
        for limit in limits:
            is_named = folded(limit.name) in (folded(str(name.CodeMeaning)), folded(concept_value(item)))
            if is_named and limit.is_passed(float(measured.NumericValue), unit):
                return UrgentMeasurement(
                    limit=limit.text,
                    measurement=str(name.CodeMeaning),
                    value=str(measured.NumericValue),
                    unit=unit,
                    finding=finding,
                )
    return None


def _numbers(report: Dataset) -> Iterator[tuple[str, Dataset]]:
    """Measurements with the finding that they are of."""
    for group in measurement_groups(report):
        names = (str(item.TextValue) for item in group.ContentSequence if concept_value(item) == _TRACKING_ID)
        finding = next(names, "")
        for item in group.ContentSequence:
            if item.ValueType == "NUM" and item.get("MeasuredValueSequence"):
                yield finding, item
