"""Study Content Notifications: a sender names the images of a study by C-STORE, and the series waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from dicom_files import ct_series
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid
from real_peers import dcmtk
from receivers import Node, associate, receiving, send_dataset, until
from scanner import ELSEWHERE, HERE, jobs_at_once, send
from timeline import timeline

from node.ledger.tables import association, instance, notice, procedure_step, procedure_step_instance, refusal

NOTIFICATION = UID("1.2.840.10008.1.9")
STORESCU = """
[[TransferSyntaxes]]
[Plain]
TransferSyntax1 = LittleEndianExplicit
[[PresentationContexts]]
[Content]
PresentationContext1 = 1.2.840.10008.1.9\\Plain
[[Profiles]]
[Notification]
PresentationContexts = Content
"""


def notification(images: Sequence[Dataset], keyword: str = "ReferencedImageSequence") -> Dataset:
    """Of one series, as PS3.3 2004 C.4.x has it: series, and images in each."""
    content, series = Dataset(), Dataset()
    content.SOPClassUID, content.SOPInstanceUID = NOTIFICATION, generate_uid()
    content.PatientID, content.PatientName = "PAT1", "Doe^Jane"
    content.StudyID, content.StudyInstanceUID = "1", images[0].StudyInstanceUID
    items = []
    for image in images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        items.append(item)
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    setattr(series, keyword, items)
    content.ReferencedSeriesSequence = [series]
    return content


def as_file(content: Dataset) -> Dataset:
    content.file_meta = FileMetaDataset()
    content.file_meta.MediaStorageSOPClassUID = NOTIFICATION
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return content


def notify(node: Node, content: Dataset, address: str = HERE, syntax: UID = ExplicitVRLittleEndian) -> int:
    """Status of the C-STORE of a notification."""
    peer = associate(node, [(NOTIFICATION, syntax)], calling="PACS", bind_address=(address, 0))
    response = send_dataset(peer, content)
    peer.release()
    return int(response.Status)


@pytest.mark.parametrize("keyword", ["ReferencedImageSequence", "ReferencedSOPSequence"])
def test_a_series_whose_images_are_all_named_and_here_is_complete_at_once(node: Node, keyword: str) -> None:
    images = ct_series(3, 16)
    send(node, images, "PACS")
    assert jobs_at_once(node) == 0
    assert notify(node, notification(images, keyword)) == 0x0000
    assert jobs_at_once(node) == 1
    assert ("study content", "PACS names 3 images in 1 series") in timeline(node.engine)
    signal = next(text for kind, text in timeline(node.engine) if kind == "complete")
    assert "3 images, all that a Study Content Notification of PACS names" in signal


def test_dcmtk_sends_a_notification_and_nothing_is_stored_as_an_image(node: Node, tmp_path: Path) -> None:
    images = ct_series(2, 16)
    content = as_file(notification(images))
    content.save_as(tmp_path / "content.dcm", enforce_file_format=True)
    (tmp_path / "storescu.cfg").write_text(STORESCU)
    profile = ("-xf", tmp_path / "storescu.cfg", "Notification")
    dcmtk("storescu", "-v", "-aet", "PACS", "-aec", "AINODE", *profile, HERE, node.port, tmp_path / "content.dcm")
    assert node.files() == []
    assert node.rows(instance) == []
    send(node, images, "PACS")
    assert jobs_at_once(node) == 1
    assert len(node.rows(instance)) == 2


def test_a_series_waits_for_what_is_named(node: Node) -> None:
    images = ct_series(4, 16)
    send(node, images[:2], "PACS")
    notify(node, notification(images))
    assert jobs_at_once(node) == 0
    send(node, images[2:], "PACS")
    assert jobs_at_once(node) == 1


def test_an_image_that_is_not_named_keeps_the_series_open(node: Node) -> None:
    images = ct_series(3, 16)
    send(node, images, "PACS")
    notify(node, notification(images[:2]))
    assert jobs_at_once(node) == 0


def test_a_series_is_complete_when_the_association_of_images_and_notification_has_ended(node: Node) -> None:
    images = ct_series(2, 16)
    contexts = [(CTImageStorage, ExplicitVRLittleEndian), (NOTIFICATION, ExplicitVRLittleEndian)]
    sender = associate(node, contexts, calling="PACS", bind_address=(HERE, 0))
    sent = [sender.send_c_store(image).Status for image in (*images, as_file(notification(images)))]
    assert sent == [0x0000, 0x0000, 0x0000]
    until(lambda: len(node.rows(instance)) == 2)
    assert jobs_at_once(node) == 0
    sender.release()
    until(lambda: not [row for row in node.rows(association) if row.closed_at is None])
    assert jobs_at_once(node) == 1


def test_a_notification_of_another_device_completes_nothing(node: Node) -> None:
    images = ct_series(2, 16)
    send(node, images, "CT1")
    assert notify(node, notification(images), ELSEWHERE) == 0x0000
    assert jobs_at_once(node) == 0


def test_the_same_notification_again_changes_nothing_and_another_one_under_its_uid_is_refused(node: Node) -> None:
    images = ct_series(3, 16)
    content = notification(images)
    assert [notify(node, content), notify(node, content)] == [0x0000, 0x0000]
    changed = notification(images[:2])
    changed.SOPInstanceUID = content.SOPInstanceUID
    assert notify(node, changed) == 0xC000
    (row,) = node.rows(procedure_step)
    assert (row.state, row.named) == ("CONTENT", 3)
    assert len(node.rows(procedure_step_instance)) == 3


@pytest.mark.parametrize("lacking", ["StudyInstanceUID", "ReferencedSeriesSequence"])
def test_a_notification_that_lacks_what_it_needs_is_refused_and_no_image_is_said_to_be_missing(
    node: Node, lacking: str
) -> None:
    content = notification(ct_series(1, 16))
    delattr(content, lacking)
    assert notify(node, content) == 0xC000
    assert node.rows(procedure_step) == []
    assert node.rows(refusal) == []


def test_a_deflated_notification_is_read(node: Node) -> None:
    assert notify(node, notification(ct_series(1, 16)), syntax=DeflatedExplicitVRLittleEndian) == 0x0000
    assert len(node.rows(procedure_step)) == 1


def test_a_caller_without_the_service_may_not_notify(tmp_path: Path) -> None:
    caller = 'callers = [{ title = "PACS", services = ["store", "availability"] }]'
    with receiving(tmp_path, caller) as node:
        contexts = [(NOTIFICATION, ExplicitVRLittleEndian), (CTImageStorage, ExplicitVRLittleEndian)]
        peer = associate(node, contexts, calling="PACS")
        assert [context.abstract_syntax for context in peer.accepted_contexts] == [CTImageStorage]
        peer.release()
        assert [row.detail for row in node.rows(notice)] == ["PACS may not use content"]
