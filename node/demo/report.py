"""What a TID 1500 report says of each finding, read back from the DICOM object alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pydicom.dataset import Dataset

from node.results.report_items import concept_value, measurement_groups
from node.wording import in_words

TRACKING_UID = "112040"
"""Code value of DCM: Tracking Unique Identifier (PS3.16 TID 1410, 1411)."""


def measurements(reports: Iterable[Dataset]) -> Mapping[str, tuple[str, ...]]:
    """Tracking Unique Identifier -> lines such as ``"Long axis 12.3 mm"``, in the order of the reports."""
    values: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        for group in measurement_groups(report):
            items = group.get("ContentSequence", [])
            uids = [str(i.UID) for i in items if i.ValueType == "UIDREF" and concept_value(i) == TRACKING_UID]
            for uid in uids:
                lines = [_line(item) for item in items if item.ValueType == "NUM" and item.MeasuredValueSequence]
                values[uid] += [line for line in lines if line not in values[uid]]
    return {uid: tuple(lines) for uid, lines in values.items()}


def _line(item: Dataset) -> str:
    measured = item.MeasuredValueSequence[0]
    value = float(measured.NumericValue)
    unit = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
    return in_words(str(item.ConceptNameCodeSequence[0].CodeMeaning), value, unit)
