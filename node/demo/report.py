"""What a TID 1500 report says of each finding, read back from the DICOM object alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pydicom.dataset import Dataset

from node.wording import in_words

MEASUREMENT_GROUP = "125007"
TRACKING_UID = "112040"
"""Code values of DCM: Measurement Group, Tracking Unique Identifier (PS3.16 TID 1410, 1411)."""


def measurements(reports: Iterable[Dataset]) -> Mapping[str, tuple[str, ...]]:
    """Tracking Unique Identifier -> lines such as ``"Long axis 12.3 mm"``, in the order of the reports."""
    values: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        for group in _groups(report):
            items = group.get("ContentSequence", [])
            uids = [str(i.UID) for i in items if i.ValueType == "UIDREF" and _concept(i)[0] == TRACKING_UID]
            for uid in uids:
                lines = [_line(item) for item in items if item.ValueType == "NUM" and item.MeasuredValueSequence]
                values[uid] += [line for line in lines if line not in values[uid]]
    return {uid: tuple(lines) for uid, lines in values.items()}


def _groups(item: Dataset) -> Iterable[Dataset]:
    for child in item.get("ContentSequence", []):
        if child.ValueType == "CONTAINER" and _concept(child)[0] == MEASUREMENT_GROUP:
            yield child
        else:
            yield from _groups(child)


def _concept(item: Dataset) -> tuple[str, str]:
    if not item.get("ConceptNameCodeSequence"):
        return "", ""
    code = item.ConceptNameCodeSequence[0]
    return str(code.get("CodeValue", "")), str(code.CodeMeaning)


def _line(item: Dataset) -> str:
    measured = item.MeasuredValueSequence[0]
    value = float(measured.NumericValue)
    unit = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
    return in_words(_concept(item)[1], value, unit)
