"""References of a reader's object to objects of this node."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from node.feedback.object_reading import AnalysisFiles


def named_instances(dataset: Dataset) -> set[str]:
    """SOP Instance UIDs that it names as what it was made from or replaces, images of its frames aside."""
    keywords = ("SourceImageSequence", "ReferencedInstanceSequence", "PredecessorStructureSetSequence")
    items = [item for keyword in keywords for item in dataset.get(keyword) or ()]
    for series in dataset.get("ReferencedSeriesSequence") or ():
        items += series.get("ReferencedInstanceSequence") or ()
    return {str(item.get("ReferencedSOPInstanceUID", "")) for item in items} | predecessor_instances(dataset)


def predecessor_instances(dataset: Dataset) -> set[str]:
    """SOP Instance UIDs of the documents that it takes the place of (PS3.3 C.17.2)."""
    return set(_instances(dataset, "PredecessorDocumentsSequence"))


def evidence_instances(dataset: Dataset) -> dict[str, str]:
    """SOP Instance UID -> SOP Class UID of what a document refers to (PS3.3 C.17.2.3)."""
    return _instances(dataset, "CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")


def referenced_series(dataset: Dataset) -> set[str]:
    """Series Instance UIDs of the images of a structure set."""
    return {
        str(series.get("SeriesInstanceUID", ""))
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
    }


def one_per_pipeline(analyses: Sequence[AnalysisFiles], named: set[str]) -> list[AnalysisFiles]:
    """Of each pipeline the analysis that is named, else the latest."""
    chosen: dict[tuple[str, str], AnalysisFiles] = {}
    for analysis in sorted(analyses, key=lambda analysis: not named & set(analysis.objects)):
        chosen.setdefault((analysis.pipeline, analysis.series_instance_uid), analysis)
    return list(chosen.values())


def content_time(dataset: Dataset) -> str:
    """When its content was made, as the object says: date and time in one, each may be missing."""
    return f"{dataset.get('ContentDate') or ''}{dataset.get('ContentTime') or ''}"


def _instances(dataset: Dataset, *keywords: str) -> dict[str, str]:
    """SOP Instance UID -> SOP Class UID of the instances in hierarchical references (PS3.3 C.17.2.1)."""
    return {
        str(item.get("ReferencedSOPInstanceUID", "")): str(item.get("ReferencedSOPClassUID", ""))
        for keyword in keywords
        for study in dataset.get(keyword) or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedSOPSequence") or ()
    }
