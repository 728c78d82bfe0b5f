"""Image Library and evidence of a report, for hundreds of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from highdicom import UID
from highdicom.sr import CodeContentItem, CodedConcept, RelationshipTypeValues, UIDRefContentItem
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sr.codedict import codes

from node.results.analysis import Source
from node.results.encoded_elements import raw_sequence, sequence, text
from node.results.encoded_elements import reference as encoded_reference
from node.results.headers import by_instance, reference, references

_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT
_MODALITIES = {
    "CT": codes.cid29.ComputedTomography,
    "MR": codes.cid29.MagneticResonance,
    "PT": codes.cid29.PositronEmissionTomography,
    "CR": codes.cid29.ComputedRadiography,
    "DX": codes.cid29.DigitalRadiography,
    "MG": codes.cid29.Mammography,
    "US": codes.cid29.Ultrasound,
    "XA": codes.cid29.XRayAngiography,
    "RF": codes.cid29.Radiofluoroscopy,
}


def evidence_of(evidence: Sequence[Dataset]) -> RawDataElement:
    """Current Requested Procedure Evidence Sequence (PS3.3 C.17.2), of one study."""
    series: dict[str, list[bytes]] = {}
    for dataset in by_instance(evidence).values():
        item = encoded_reference(*reference(dataset))
        series.setdefault(str(dataset.SeriesInstanceUID), []).append(item)
    parts = [
        sequence("ReferencedSOPSequence", *items) + text("SeriesInstanceUID", uid) for uid, items in series.items()
    ]
    study = text("StudyInstanceUID", evidence[0].StudyInstanceUID)
    return raw_sequence(
        "CurrentRequestedProcedureEvidenceSequence", [sequence("ReferencedSeriesSequence", *parts) + study]
    )


def image_library(source: Source, headers: Sequence[Dataset]) -> Dataset:
    """Return the Image Library (TID 1600): every analysed image, with or without findings."""
    items: list[Dataset] = []
    if source.modality in _MODALITIES:
        items.append(CodeContentItem(codes.DCM.Modality, _MODALITIES[source.modality], _CONTEXT))
    uid = source.datasets[0].get("FrameOfReferenceUID")
    if uid:
        items.append(UIDRefContentItem(codes.DCM.FrameOfReferenceUID, UID(str(uid)), _CONTEXT))
    name = [CodedConcept("260753009", "SCT", "Source")]
    for sop_class, instance, frames in references(headers):
        referenced = Dataset()
        referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID = sop_class, instance
        if frames is not None:
            referenced.ReferencedFrameNumber = frames
        items.append(_item("IMAGE", name, ReferencedSOPSequence=[referenced]))
    group = _item("CONTAINER", [CodedConcept.from_code(codes.DCM.ImageLibraryGroup)], ContentSequence=items)
    library = _item("CONTAINER", [CodedConcept.from_code(codes.DCM.ImageLibrary)], ContentSequence=[group])
    group.ContinuityOfContent = library.ContinuityOfContent = "CONTINUOUS"
    return library


def _item(value_type: str, name: list[CodedConcept], **values: Any) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", value_type, name
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
