"""Reads structured reports and rejection notes of readers as answers to analyses of this node. Runs confined.

A report (PS3.16 TID 1500) that names ours as its predecessor takes its place: what it no longer has was rejected. One
that only refers to ours says nothing of lesions that it leaves out. Lesions are told by Tracking UID alone, so that a
report whose program gave all of them new ones is no verdict. Viewers name ours as predecessor as soon as their user
stores measurements in its series, and take nothing over: such a report is no verdict either. A group with the Tracking
UID of a lesion is about it where it has an outline or a measurement that we reported of it; else it only mentions the
lesion, which is then neither kept nor rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

from pydicom import Dataset

from node import MAKER
from node.feedback.object_reading import AnalysisFiles, ObjectReading, refused
from node.feedback.references import content_time, evidence_instances, one_per_pipeline, predecessor_instances
from node.ledger.verdict import LesionVerdict, MatchedBy, Verdict
from node.reasons import ReasonCode, reason
from node.results.report_items import MEASUREMENT_GROUP, concept_value, measurement_groups
from node.studies.attributes import SEGMENTATIONS, STRUCTURED_REPORTS
from node.studies.header import read_header
from node.studies.identity import PRIOR, contradictions

IMAGING_MEASUREMENT_REPORT, _IMAGING_MEASUREMENTS = "126000", "126010"
TRACKING_UID, _PERSON_NAME, _VOLUME = "112040", "121008", ("118565006", "G-D705")
"""Code values of DCM, SCT and SRT (PS3.16 TID 1003, 1410, 1411)."""
_OUTLINES = ("111030", "121191", "121214")
"""Image Region, Referenced Segment, Referenced Segmentation Frame (DCM)."""
_REJECTED_FOR_CONTENT = {"113001": "Rejected for Quality Reasons", "113037": "Rejected for Patient Safety Reasons"}
"""CID 7011; a wrong worklist entry and an expired retention say nothing of what an object shows."""
_WITH_LESIONS = (*SEGMENTATIONS, STRUCTURED_REPORTS)
"""Beginnings of the classes of our objects that hold lesions: masks and reports."""
_TOLERANCE = 1e-3
"""Relative: how much a copied value may be rounded."""

Values = dict[tuple[str, str], float]
"""Of a lesion: by code of the measurement and unit."""


def read_report(dataset: Dataset, analyses: Sequence[AnalysisFiles]) -> ObjectReading:
    """Return what a structured report says about ``analyses``, the latest first."""
    reader = verifier_of(dataset)
    if str(dataset.get("Manufacturer", "")) == MAKER and not reader:
        return refused(reason(ReasonCode.OF_THIS_SOFTWARE))
    reader = reader or observer_of(dataset)
    if not reader:
        return refused(reason(ReasonCode.OF_NO_READER))
    predecessors, evidence = predecessor_instances(dataset), evidence_instances(dataset)
    named = predecessors | set(evidence)
    candidates = one_per_pipeline(
        [analysis for analysis in analyses if named & set(analysis.objects) and analysis.reports], named
    )
    if concept_value(dataset) != IMAGING_MEASUREMENT_REPORT or not candidates:
        return refused(reason(ReasonCode.OF_OTHER_FINDINGS))
    if why := other_patient(dataset, candidates):
        return why
    verdicts: list[LesionVerdict] = []
    reported = {analysis.job_id: reported_lesions(analysis) for analysis in candidates}
    own = {uid: values for lesions in reported.values() for uid, values in lesions.items()}
    measured, outlined = measurements_in(dataset), _outlined(dataset)
    theirs = {uid: of for uid, of in measured.items() if uid in outlined or of.keys() & own.get(uid, {}).keys()}
    mentioned = own.keys() & measured.keys() - theirs.keys()
    is_emptied = not theirs and not mentioned and _is_emptied(dataset, candidates)
    is_whole = not mentioned
    for analysis in candidates:
        ours, is_successor = reported[analysis.job_id], bool(predecessors & set(analysis.objects))
        if not ours.keys() & theirs.keys() and not (is_successor and ours and is_emptied):
            continue
        is_whole = is_whole and is_successor
        verdicts += [_verdict(analysis, uid, ours[uid], theirs[uid]) for uid in ours if uid in theirs]
        if is_successor:
            verdicts += [_rejected(analysis, uid, ours[uid]) for uid in ours.keys() - theirs.keys() - mentioned]
        if len(candidates) == 1:
            verdicts += [
                LesionVerdict(
                    job_id=analysis.job_id, lesion=uid, verdict=Verdict.ADDED, reader_volume_mm3=volume_of(theirs[uid])
                )
                for uid in theirs.keys() - own.keys()
            ]
    if not verdicts:
        return refused(reason(ReasonCode.OF_OTHER_FINDINGS))
    return ObjectReading(verdicts=tuple(verdicts), is_whole=is_whole, reader=reader, content_time=content_time(dataset))


def read_rejection_note(dataset: Dataset, analyses: Sequence[AnalysisFiles]) -> ObjectReading:
    """Return what a Key Object Selection says: every lesion of a result that it rejects for what it shows."""
    if str(dataset.get("Manufacturer", "")) == MAKER:
        return refused(reason(ReasonCode.OF_THIS_SOFTWARE))
    if concept_value(dataset) not in _REJECTED_FOR_CONTENT:
        title = dataset.get("ConceptNameCodeSequence") or [Dataset()]
        return refused(reason(ReasonCode.OF_OTHER_REASON, title=str(title[0].get("CodeMeaning", "none"))))
    classes = evidence_instances(dataset)
    named = {uid for uid, of_class in classes.items() if of_class.startswith(_WITH_LESIONS)}
    candidates = [analysis for analysis in analyses if named & set(analysis.objects) and analysis.reports]
    if why := other_patient(dataset, candidates):
        return why
    verdicts = tuple(
        _rejected(analysis, uid, values)
        for analysis in candidates
        for uid, values in reported_lesions(analysis).items()
    )
    if not verdicts:
        return refused(reason(ReasonCode.OF_OTHER_FINDINGS))
    return ObjectReading(verdicts=verdicts, reader=observer_of(dataset), content_time=content_time(dataset))


def measurements_in(report: Dataset) -> dict[str, Values]:
    """Measurements of all groups of a report, by Tracking UID; ``""`` for groups without one."""
    values: dict[str, Values] = {}
    for group in measurement_groups(report):
        items = list(group.get("ContentSequence") or ())
        values.setdefault(_tracking_uid(items), {}).update(filter(None, map(_measurement, items)))
    return values


def _measurement(item: Dataset) -> tuple[tuple[str, str], float] | None:
    """Return key and value of a measurement; ``None``: the item is none, or one that cannot be read."""
    if item.get("ValueType") != "NUM":
        return None
    try:
        measured = item.MeasuredValueSequence[0]
        unit, value = str(measured.MeasurementUnitsCodeSequence[0].CodeValue), float(measured.NumericValue)
    except (AttributeError, IndexError, TypeError, ValueError):  # absent, empty or several
        return None
    return ((concept_value(item), unit), value) if isfinite(value) else None


def lesions_in(report: Dataset) -> dict[str, Values]:
    """Measurements of each lesion of a report, by Tracking UID; a group that outlines nothing is of no lesion."""
    outlined = _outlined(report)
    return {uid: values for uid, values in measurements_in(report).items() if uid in outlined}


def _outlined(report: Dataset) -> set[str]:
    """Tracking UIDs of the groups that outline something."""
    groups = (list(group.get("ContentSequence") or ()) for group in measurement_groups(report))
    return {
        uid
        for items in groups
        if (uid := _tracking_uid(items))
        and any(concept_value(item) in _OUTLINES or item.get("ValueType") == "SCOORD3D" for item in items)
    }


def _is_emptied(report: Dataset, analyses: Sequence[AnalysisFiles]) -> bool:
    """Whether a report has the container of measurements, and nothing to say that ours do not say."""
    if not any(concept_value(item) == _IMAGING_MEASUREMENTS for item in report.get("ContentSequence") or ()):
        return False
    ours = [read_header(path) for analysis in analyses for path in analysis.reports]
    groups = {uid for header in ours for uid in measurements_in(header)} - {""}
    statements = {statement for header in ours for statement in _statements(header)}
    return measurements_in(report).keys() <= groups and statements.issuperset(_statements(report))


def _statements(item: Dataset) -> Iterator[str]:
    """Yield what is stated outside the groups, as text; the circumstances of the report are none."""
    for child in item.get("ContentSequence") or ():
        if child.get("ValueType") == "CONTAINER":
            if concept_value(child) != MEASUREMENT_GROUP:
                yield from _statements(child)
        elif child.get("RelationshipType") == "CONTAINS" and child.get("ValueType") != "IMAGE":
            yield str(child)


def reported_lesions(analysis: AnalysisFiles) -> dict[str, Values]:
    """Our lesions."""
    lesions: dict[str, Values] = {}
    for path in analysis.reports:
        lesions |= lesions_in(read_header(path))
    return lesions


def _tracking_uid(items: Sequence[Dataset]) -> str:
    return next((str(item.get("UID") or "") for item in items if concept_value(item) == TRACKING_UID), "")


def _verdict(analysis: AnalysisFiles, uid: str, ours: Values, theirs: Values) -> LesionVerdict:
    """Edited when a measurement that both have differs."""
    both = [(ours[key], theirs[key]) for key in ours.keys() & theirs.keys()]
    is_changed = any(abs(value - other) > _TOLERANCE * max(abs(value), abs(other)) for value, other in both)
    return LesionVerdict(
        job_id=analysis.job_id,
        lesion=uid,
        verdict=Verdict.EDITED if is_changed else Verdict.ACCEPTED,
        matched_by=MatchedBy.TRACKING_UID,
        volume_mm3=volume_of(ours),
        reader_volume_mm3=volume_of(theirs),
    )


def _rejected(analysis: AnalysisFiles, uid: str, values: Values) -> LesionVerdict:
    return LesionVerdict(job_id=analysis.job_id, lesion=uid, verdict=Verdict.REJECTED, volume_mm3=volume_of(values))


def volume_of(values: Values) -> float | None:
    """Return the volume of a lesion in mm3, where it is stated."""
    return next((value for (code, unit), value in values.items() if code in _VOLUME and unit == "mm3"), None)


def other_patient(dataset: Dataset, candidates: Sequence[AnalysisFiles]) -> ObjectReading | None:
    """Return why an object is not about the patient of our images; ``None``: it may be."""
    for path in {analysis.images[0]: None for analysis in candidates if analysis.images}:
        if keywords := contradictions([read_header(Path(path)), dataset], PRIOR):
            return refused(reason(ReasonCode.OF_ANOTHER_PATIENT, keywords=", ".join(keywords)))
    return None


def verifier_of(dataset: Dataset) -> str:
    """Who verified a report; ``""`` when nobody did."""
    observers = dataset.get("VerifyingObserverSequence") or ()
    if str(dataset.get("VerificationFlag", "")) != "VERIFIED" or not observers:
        return ""
    return str(observers[-1].get("VerifyingObserverName") or "")


def observer_of(dataset: Dataset) -> str:
    """The person who observed what the object says (TID 1003); ``""`` when it names none."""
    items = (item for item in dataset.get("ContentSequence") or () if concept_value(item) == _PERSON_NAME)
    return next((str(item.get("PersonName") or "") for item in items), "")
