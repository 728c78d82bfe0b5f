"""Reads assessments of our results: reports in which a reader says by a code what a result is worth. Runs confined.

IHE RAD AI Result Assessment (AIRA, AIRAI) defines such objects. Its text was not available when this was written, so
nothing here is taken from it: which code means which verdict is for the site to state (``[feedback]
assessment_codes``), and of the structure only what DICOM itself defines is used, references and Tracking UIDs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from node import MAKER
from node.feedback.object_reading import AnalysisFiles, ObjectReading, refused
from node.feedback.references import content_time, evidence_instances, one_per_pipeline, predecessor_instances
from node.feedback.report_reader import (
    IMAGING_MEASUREMENT_REPORT,
    TRACKING_UID,
    observer_of,
    other_patient,
    reported_lesions,
    verifier_of,
    volume_of,
)
from node.ledger.verdict import LesionVerdict, MatchedBy, Verdict
from node.peer_text import escaped
from node.reasons import ReasonCode, reason
from node.results.report_items import concept_value
from node.studies.header import read_header

Code = tuple[str, str]
"""Code Value and Coding Scheme Designator."""
AssessmentCodes = Mapping[Code, Verdict]
_DEEPEST = 32
_MOST_SHOWN = 5
_LONGEST_CODE = 120


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """What an item of a report is about."""

    lesions: frozenset[str] = frozenset()
    """Tracking UIDs; empty: it names none."""
    objects: frozenset[str] = frozenset()
    """SOP Instance UIDs of our objects as a whole; empty, too: all that the report refers to."""


def read_assessment(
    dataset: Dataset, analyses: Sequence[AnalysisFiles], codes: AssessmentCodes
) -> ObjectReading | None:
    """Return what a report says about ``analyses`` (latest first) by ``codes``; ``None``: it is no assessment.

    An assessment whose codes are not among ``codes`` is refused with them, and never taken for a verdict.
    """
    reader = verifier_of(dataset) or observer_of(dataset) or _person(dataset)
    named = _named_instances(dataset)
    candidates = one_per_pipeline(
        [analysis for analysis in analyses if named & set(analysis.objects) and analysis.reports], named
    )
    if not reader or not candidates or str(dataset.get("Manufacturer", "")) == MAKER:
        return None
    statements = list(_statements(dataset, _Scope(), _Results.of(candidates), codes))
    if not statements:
        other = list(dict.fromkeys(_shown_codes(dataset)))
        if concept_value(dataset) == IMAGING_MEASUREMENT_REPORT or not other:
            return None
        return refused(reason(ReasonCode.UNKNOWN_ASSESSMENT, codes="; ".join(other[:_MOST_SHOWN])))
    if why := other_patient(dataset, candidates):
        return why
    verdicts = tuple(verdict for analysis in candidates for verdict in _verdicts(analysis, statements))
    if not verdicts:
        return refused(reason(ReasonCode.OF_OTHER_FINDINGS))
    return ObjectReading(verdicts=verdicts, is_whole=False, reader=reader, content_time=content_time(dataset))


@dataclass(frozen=True, kw_only=True)
class _Results:
    """Our objects that the report refers to."""

    objects: frozenset[str]
    segments: Mapping[tuple[str, int], str]
    """Tracking UID by SOP Instance UID and Segment Number."""

    @classmethod
    def of(cls, analyses: Sequence[AnalysisFiles]) -> _Results:
        segments: dict[tuple[str, int], str] = {}
        for path in (analysis.segmentation for analysis in analyses if analysis.segmentation is not None):
            header = read_header(path)
            for item in header.get("SegmentSequence") or ():
                if uid := str(item.get("TrackingUID", "")):
                    segments[str(header.SOPInstanceUID), int(item.SegmentNumber)] = uid
        return cls(objects=frozenset(uid for analysis in analyses for uid in analysis.objects), segments=segments)


def _statements(
    item: Dataset, outer: _Scope, ours: _Results, codes: AssessmentCodes, depth: int = 0
) -> Iterator[tuple[_Scope, Verdict]]:
    """Yield each known code below an item with what it is about: the item's own references, else those around it."""
    scope = _scope_of(item, ours) or outer
    if (verdict := codes.get(_code(item))) is not None:
        yield scope, verdict
    for child in item.get("ContentSequence") or () if depth < _DEEPEST else ():
        yield from _statements(child, scope, ours, codes, depth + 1)


def _scope_of(item: Dataset, ours: _Results) -> _Scope | None:
    """What an item refers to, of whomever it is; ``None`` without a reference."""
    lesions: set[str] = set()
    objects: set[str] = set()
    for child in item.get("ContentSequence") or ():
        if concept_value(child) == TRACKING_UID and child.get("UID"):
            lesions.add(str(child.UID))
        for reference in child.get("ReferencedSOPSequence") or ():
            uid = str(reference.get("ReferencedSOPInstanceUID", ""))
            numbers = reference.get("ReferencedSegmentNumber")
            numbers = [] if numbers is None else [numbers] if isinstance(numbers, int) else list(numbers)
            segments = [ours.segments[uid, int(n)] for n in numbers if (uid, int(n)) in ours.segments]
            lesions.update(segments)
            if numbers and not segments:
                lesions.add(f"unknown segment of {uid}")
            elif not segments:
                objects.add(uid)
    return _Scope(lesions=frozenset(lesions), objects=frozenset(objects)) if lesions or objects else None


def _verdicts(analysis: AnalysisFiles, said: Sequence[tuple[_Scope, Verdict]]) -> Iterator[LesionVerdict]:
    """What is said of a lesion itself counts before what is said of the result; two opposite verdicts are none."""
    lesions = reported_lesions(analysis)
    whole = {verdict for scope, verdict in said if not scope.lesions and _is_about(scope, analysis)}
    if len(lesions) > 1:
        whole.discard(Verdict.EDITED)  # it does not say which: the edited object does
    for uid, values in lesions.items():
        of_lesion = {verdict for scope, verdict in said if uid in scope.lesions} or whole
        if len(of_lesion) == 1:
            yield LesionVerdict(
                job_id=analysis.job_id,
                lesion=uid,
                verdict=next(iter(of_lesion)),
                matched_by=MatchedBy.TRACKING_UID,
                volume_mm3=volume_of(values),
            )


def _is_about(scope: _Scope, analysis: AnalysisFiles) -> bool:
    return not scope.objects or bool(scope.objects & set(analysis.objects))


def _named_instances(dataset: Dataset) -> set[str]:
    """SOP Instance UIDs that a report refers to, in its header or in its content."""
    named = predecessor_instances(dataset) | set(evidence_instances(dataset))
    items, depth = [dataset], 0
    while items and depth < _DEEPEST:
        references = (reference for item in items for reference in item.get("ReferencedSOPSequence") or ())
        named |= {str(reference.get("ReferencedSOPInstanceUID", "")) for reference in references}
        items, depth = [child for item in items for child in item.get("ContentSequence") or ()], depth + 1
    return named


def _code(item: Dataset) -> Code:
    values = item.get("ConceptCodeSequence")
    if item.get("ValueType") != "CODE" or not values:
        return "", ""
    return str(values[0].get("CodeValue", "")), str(values[0].get("CodingSchemeDesignator", ""))


def _shown_codes(item: Dataset, depth: int = 0) -> Iterator[str]:
    if any(code := _code(item)):
        meaning = str(item.ConceptCodeSequence[0].get("CodeMeaning", ""))
        yield escaped(f"{code[0]} {code[1]} {meaning}", _LONGEST_CODE)
    for child in item.get("ContentSequence") or () if depth < _DEEPEST else ():
        yield from _shown_codes(child, depth + 1)


def _person(dataset: Dataset) -> str:
    """The first person in the observation context, whatever the item is called; ``""`` when there is none."""
    items = (item for item in dataset.get("ContentSequence") or () if item.get("ValueType") == "PNAME")
    return next((str(item.get("PersonName") or "") for item in items), "")
