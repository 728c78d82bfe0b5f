"""What objects are about, as their headers say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from pydicom import Dataset


def referenced_series(headers: Iterable[Dataset]) -> Iterator[str]:
    """Yield Series Instance UIDs of Referenced Series Sequence (SEG) and of the evidence of reports (PS3.3 C.17.2)."""
    for header in headers:
        evidence = header.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for holder in chain((header,), evidence):
            for item in holder.get("ReferencedSeriesSequence") or ():
                if uid := str(item.get("SeriesInstanceUID") or ""):
                    yield uid
