"""Objects without voxels of their own: presentation states, PDF documents, rejection notes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from pydicom import Dataset

from node.results.analysis import Source
from node.results.headers import by_instance
from node.results.rejection import REJECTIONS


def graphic_faults(state: Dataset, source: Source) -> Iterator[str]:
    """Check that outlines lie within the images they are drawn on."""
    images = by_instance(source.datasets)
    for annotation in state.GraphicAnnotationSequence:
        image = images[str(annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID)]
        limits = [float(image.Columns), float(image.Rows)]
        for graphic in annotation.GraphicObjectSequence:
            points = np.reshape(np.asarray(graphic.GraphicData, float), (-1, 2))
            if (points < 0).any() or (points > limits).any():
                yield "an outline leaves its image"


def pdf_faults(document: Dataset) -> Iterator[str]:
    """Check that the PDF is complete and is marked as naming the patient."""
    data = document.EncapsulatedDocument[: int(document.EncapsulatedDocumentLength)]
    if document.MIMETypeOfEncapsulatedDocument != "application/pdf" or not data.startswith(b"%PDF-"):
        yield "EncapsulatedDocument is no PDF"
    if not data.rstrip().endswith(b"%%EOF"):
        yield "EncapsulatedDocument is cut off"
    if document.get("BurnedInAnnotation") != "YES":
        yield "BurnedInAnnotation is not YES, but the page names the patient"


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
