"""TID 1500 reports (PS3.16): faults that third-party validators do not detect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pydicom import Dataset

Name = tuple[str, str]
_TITLE = ("126000", "DCM")
_LANGUAGE = ("121049", "DCM")
_PROCEDURE_REPORTED = ("121058", "DCM")
_OBSERVER_TYPE = ("121005", "DCM")
_MEASUREMENTS = ("126010", "DCM")
_GROUP = ("125007", "DCM")
_TRACKING_UID = ("112040", "DCM")
_REFERENCED_SEGMENT = ("121191", "DCM")
_REFERENCED_FRAME = ("121214", "DCM")
"""Referenced Segmentation Frame."""
_CONTEXT: dict[Name, str] = {  # TID 1500, 1001, 1204
    _LANGUAGE: "HAS CONCEPT MOD",
    _PROCEDURE_REPORTED: "HAS CONCEPT MOD",
    _OBSERVER_TYPE: "HAS OBS CONTEXT",
}
_GROUP_RELATIONSHIPS: dict[Name, str] = {  # TID 1410, 1411, 1501, 4019
    ("112039", "DCM"): "HAS OBS CONTEXT",  # Tracking Identifier
    _TRACKING_UID: "HAS OBS CONTEXT",
    ("121071", "DCM"): "CONTAINS",  # Finding
}
_OPTIONAL_RELATIONSHIPS: dict[Name, str] = {
    ("363698007", "SCT"): "HAS CONCEPT MOD",  # Finding Site
    ("111001", "DCM"): "HAS CONCEPT MOD",  # Algorithm Name
    ("111003", "DCM"): "HAS CONCEPT MOD",  # Algorithm Version
    _REFERENCED_SEGMENT: "CONTAINS",
    _REFERENCED_FRAME: "CONTAINS",
    ("111030", "DCM"): "CONTAINS",  # Image Region
}
_VALUES = {  # PS3.3 C.17.3.2
    "CONTAINER": "ContinuityOfContent",
    "TEXT": "TextValue",
    "CODE": "ConceptCodeSequence",
    "NUM": "MeasuredValueSequence",
    "UIDREF": "UID",
    "IMAGE": "ReferencedSOPSequence",
    "COMPOSITE": "ReferencedSOPSequence",
    "SCOORD": "GraphicData",
    "SCOORD3D": "GraphicData",
}


def _name(item: Dataset) -> Name:
    return _first(item.get("ConceptNameCodeSequence"))


def _code(item: Dataset) -> Name:
    return _first(item.get("ConceptCodeSequence"))


def _first(sequence: Sequence[Dataset] | None) -> Name:
    return (str(sequence[0].get("CodeValue")), str(sequence[0].get("CodingSchemeDesignator"))) if sequence else ("", "")


def _children(item: Dataset, name: Name) -> list[Dataset]:
    return [c for c in item.get("ContentSequence") or [] if _name(c) == name]


def report_faults(report: Dataset, results: Mapping[str, Dataset]) -> Iterator[str]:
    """Title, language, context and measurement groups of a report."""
    template = report.get("ContentTemplateSequence") or [Dataset()]
    if (template[0].get("MappingResource"), template[0].get("TemplateIdentifier")) != ("DCMR", "1500"):
        yield "ContentTemplateSequence is not TID 1500 of DCMR"
    if _name(report) != _TITLE:
        yield "the title is not Imaging Measurement Report"
    for name, relationship in _CONTEXT.items():
        matching = _children(report, name)
        if not matching or any(i.get("RelationshipType") != relationship for i in matching):
            yield f"{name} is missing or not related by {relationship}"
    groups = [g for m in _children(report, _MEASUREMENTS) for g in _children(m, _GROUP)]
    if not groups:
        yield "there is no measurement group"
    kinds: dict[str, set[str]] = {}
    for number, group in enumerate(groups, 1):
        yield from (f"measurement group {number}: {fault}" for fault in _group_faults(group, results, kinds))
    for uid, values in kinds.items():
        if "SEG" in values and "SCOORD" not in values:
            yield f"tracking UID {uid} has a segment but no outline; viewers would show none of the report"
    yield from _item_faults(report)


def _group_faults(group: Dataset, results: Mapping[str, Dataset], kinds: dict[str, set[str]]) -> Iterator[str]:
    items: list[Dataset] = list(group.get("ContentSequence") or [])
    for name, relationship in (_GROUP_RELATIONSHIPS | _OPTIONAL_RELATIONSHIPS).items():
        matching = [i for i in items if _name(i) == name]
        if name in _GROUP_RELATIONSHIPS and len(matching) != 1:
            yield f"{name} occurs {len(matching)} times"
        for item in matching:
            if item.get("RelationshipType") != relationship:
                yield f"{name} is not related by {relationship}"
    tracking = next((str(i.get("UID")) for i in items if _name(i) == _TRACKING_UID), "")
    shown = kinds.setdefault(tracking, set())
    outlines = [i for parent in (group, *items) for i in parent.get("ContentSequence") or []]
    for outline in (item for item in outlines if item.get("ValueType") == "SCOORD"):
        shown.add("SCOORD")
        yield from _outline_faults(outline)
    for item in items:
        if item.get("ValueType") == "NUM":
            yield from _number_faults(item)
        if _name(item) in (_REFERENCED_SEGMENT, _REFERENCED_FRAME):
            shown.add("SEG")
            yield from _segment_faults(item, results, tracking)
    regions = sum(
        item.get("ValueType") in ("SCOORD", "SCOORD3D") or _name(item) in (_REFERENCED_SEGMENT, _REFERENCED_FRAME)
        for item in items
    )
    if regions > 1:  # TID 1410 and 1411 describe one region each
        yield f"there are {regions} outlines and segments"
    numbers = Counter(_measured(i) for i in items if i.get("ValueType") == "NUM")
    yield from (f"{name} is measured {count} times" for (name, *_), count in numbers.items() if count > 1)


def _measured(item: Dataset) -> tuple[Name, ...]:
    """Name of a measurement, then its modifiers: mean and maximum of one quantity are two measurements."""
    modifiers = [_code(c) for c in item.get("ContentSequence") or [] if c.get("ValueType") == "CODE"]
    return (_name(item), *modifiers)


def _number_faults(item: Dataset) -> Iterator[str]:
    values = item.get("MeasuredValueSequence")
    if not values:
        yield f"{_name(item)} has no value"
        return
    units = values[0].get("MeasurementUnitsCodeSequence")
    if not units or units[0].get("CodingSchemeDesignator") != "UCUM" or not units[0].get("CodeValue"):
        yield f"{_name(item)} has no UCUM unit"
    if item.get("RelationshipType") != "CONTAINS":
        yield f"{_name(item)} is not related by CONTAINS"


def _outline_faults(item: Dataset) -> Iterator[str]:
    data = list(item.get("GraphicData") or ())
    if len(data) < 2 or len(data) % 2:
        yield "the outline has no points"
    images = [c for c in item.get("ContentSequence") or [] if c.get("ValueType") == "IMAGE"]
    if len(images) != 1 or images[0].get("RelationshipType") != "SELECTED FROM":
        yield "the outline is not selected from one image"


def _segment_faults(item: Dataset, results: Mapping[str, Dataset], tracking: str) -> Iterator[str]:
    target = item.ReferencedSOPSequence[0]
    seg = results.get(str(target.ReferencedSOPInstanceUID))
    number = target.get("ReferencedSegmentNumber")
    segments = {int(s.SegmentNumber): s for s in (seg.get("SegmentSequence") or [] if seg is not None else [])}
    if number is None or int(number) not in segments:
        yield f"refers to segment {number}, which the SEG has not"
    elif segments[int(number)].get("TrackingUID") != tracking:
        yield f"tracking UID is not that of segment {number}"


def _item_faults(item: Dataset) -> Iterator[str]:
    """Each content item has a value of its type, a name where its type needs one, and a relationship below the root."""
    for child in item.get("ContentSequence") or []:
        value_type = str(child.get("ValueType"))
        keyword = _VALUES.get(value_type)
        if keyword is None or not child.get(keyword):
            yield f"content item {_name(child)} of type {value_type} has no {keyword or 'known type'}"
        if not child.get("RelationshipType"):
            yield f"content item {_name(child)} has no RelationshipType"
        if value_type not in ("IMAGE", "CONTAINER") and not child.get("ConceptNameCodeSequence"):
            yield f"a content item of type {value_type} has no name"
        yield from _item_faults(child)
