"""Rejection note: the Key Object Selection that makes archives hide rejected results (IHE IOCM, RAD TF-3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.results.analysis import Analysis, EncodedObject, Kind
from node.results.equipment import MANUFACTURER
from node.results.headers import EMPTY
from node.results.identity import Identity, noted
from node.results.part10 import finish
from node.results.uids import derive_uid

REJECTIONS: Mapping[str, Code] = {  # CID 7010 and IHE RAD TF-3: 4.66.4.1.3
    "quality": codes.DCM.RejectedForQualityReasons,
    "safety": codes.DCM.RejectedForPatientSafetyReasons,
    "worklist": codes.DCM.IncorrectModalityWorklistEntry,
    "retention": codes.DCM.DataRetentionPolicyExpired,
}
"""Why results are withdrawn, by the word that ``ainode retract`` takes."""
KIND: Kind = "rejection"


def encode_rejection(analysis: Analysis, results: Sequence[Path], reason: str, replaced_at: str = "") -> EncodedObject:
    """Encode the note on ``results``, files of one study that this node made, with their identity.

    ``analysis``: pipeline, algorithm and time of the note. ``reason``: a key of ``REJECTIONS``. ``replaced_at``: the
    destination that holds them, when they are withdrawn because others take their place.
    """
    objects = [_header(path) for path in results]
    uids = [*([replaced_at] if replaced_at else []), *sorted(str(o.SOPInstanceUID) for o in objects)]
    note = KeyObjectSelectionDocument(
        evidence=objects,
        content=KeyObjectSelection(REJECTIONS[reason], objects, description=noted(analysis.reason, 1024)),
        series_instance_uid=derive_uid("rejection series", analysis.salt, reason, *uids),
        series_number=9099,
        sop_instance_uid=derive_uid("rejection", analysis.salt, reason, *uids),
        instance_number=1,
        manufacturer=MANUFACTURER,
    )
    note.SeriesDescription = "AI results replaced" if replaced_at else f"AI results withdrawn ({reason})"
    data = finish(note, analysis, Identity.of(results[0]))
    return EncodedObject(data=data, kind=KIND, description=note.SeriesDescription)


def _header(path: Path) -> Dataset:
    stored = dcmread(path, stop_before_pixels=True)
    header = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        header.add(stored[keyword])
    for keyword in EMPTY:
        setattr(header, keyword, "")
    return header
