"""Encapsulated PDF documents: complete, and marked as naming the patient."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset


def pdf_faults(document: Dataset) -> Iterator[str]:
    """Check that the PDF is complete and is marked as naming the patient."""
    data = document.EncapsulatedDocument[: int(document.EncapsulatedDocumentLength)]
    if document.MIMETypeOfEncapsulatedDocument != "application/pdf" or not data.startswith(b"%PDF-"):
        yield "EncapsulatedDocument is no PDF"
    if not data.rstrip().endswith(b"%%EOF"):
        yield "EncapsulatedDocument is cut off"
    if document.get("BurnedInAnnotation") != "YES":
        yield "BurnedInAnnotation is not YES, but the page names the patient"
