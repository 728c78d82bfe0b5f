"""A scanner for tests: sends images and says by MPPS what it does (PS3.4 annex F)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom.sop_class import ModalityPerformedProcedureStep
from receivers import Node, associate, send_dataset, until

from node.ledger.tables import association

CONTEXTS = [(CTImageStorage, ExplicitVRLittleEndian), (ModalityPerformedProcedureStep, ExplicitVRLittleEndian)]


def send(node: Node, datasets: Sequence[Dataset], calling: str = "CT1") -> None:
    """Store and release; returns when the node knows that the association is closed."""
    sender = associate(node, CONTEXTS, calling=calling)
    assert [send_dataset(sender, dataset).Status for dataset in datasets] == [0x0000] * len(datasets)
    sender.release()
    until(lambda: all(row.closed_at for row in node.rows(association)))


def begin(node: Node, study: str, uid: str | None = "", **changes: str) -> tuple[Dataset, str | None]:
    """N-CREATE with a new UID, or with this one or none; the response and the UID. "" leaves an attribute out."""
    attributes = Dataset()
    scheduled = Dataset()
    if study:
        scheduled.StudyInstanceUID = study
    attributes.ScheduledStepAttributesSequence = [scheduled]
    for keyword, value in {"PerformedProcedureStepStatus": "IN PROGRESS", "Modality": "CT", **changes}.items():
        if value:
            setattr(attributes, keyword, value)
    attributes.PerformedSeriesSequence = []
    peer = associate(node, CONTEXTS, calling="CT1")
    uid = str(generate_uid()) if uid == "" else uid
    response, _ = peer.send_n_create(attributes, ModalityPerformedProcedureStep, uid)
    peer.release()
    return response, uid


def say(node: Node, uid: str, state: str, made: Sequence[Dataset] = ()) -> Dataset:
    """N-SET with a state and the images that were made; the response."""
    changes = Dataset()
    changes.PerformedProcedureStepStatus = state
    changes.PerformedSeriesSequence = []
    for series in sorted({str(image.SeriesInstanceUID) for image in made}):
        item = Dataset()
        item.SeriesInstanceUID = series
        item.ReferencedImageSequence = []
        for image in made:
            if image.SeriesInstanceUID == series:
                reference = Dataset()
                reference.ReferencedSOPClassUID = image.SOPClassUID
                reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
                item.ReferencedImageSequence.append(reference)
        changes.PerformedSeriesSequence.append(item)
    peer = associate(node, CONTEXTS, calling="CT1")
    response, _ = peer.send_n_set(changes, ModalityPerformedProcedureStep, uid)
    peer.release()
    return response
