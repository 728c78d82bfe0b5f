"""Rejection notes: the reason and the rejected objects."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pydicom import Dataset

from node.results.rejection import REJECTIONS


def rejection_faults(note: Dataset, rejected: Collection[str]) -> Iterator[str]:
    """Check that the title is a rejection code (CID 7010) and that content and evidence name the rejected objects."""
    title = note.ConceptNameCodeSequence[0]
    if (title.CodeValue, title.CodingSchemeDesignator) not in {(c.value, "DCM") for c in REJECTIONS.values()}:
        yield f"the title {title.CodeMeaning!r} is no reason to reject"
    content = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in note.ContentSequence
        if "ReferencedSOPSequence" in item
    }
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    for place, named in (("content", content), ("evidence", evidence)):
        if named != set(rejected):
            yield f"its {place} names {len(named & set(rejected))} of the {len(rejected)} rejected objects"
