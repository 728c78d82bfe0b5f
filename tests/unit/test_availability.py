"""Instance Availability Notifications: an archive names what it has, and the series waits for that and no longer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from dicom_files import ct_series
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom.sop_class import InstanceAvailabilityNotification
from receivers import Node, associate, send_dataset
from scanner import ELSEWHERE, HERE, jobs_at_once, say, send
from timeline import timeline

from node.ledger.tables import procedure_step, procedure_step_instance

CONTEXTS = [(InstanceAvailabilityNotification, ExplicitVRLittleEndian)]


def notification(images: Sequence[Dataset], **availability: str) -> Dataset:
    """Of one series; ``availability``: of an image by its number, ONLINE without."""
    content, series = Dataset(), Dataset()
    content.ReferencedPerformedProcedureStepSequence = []
    content.StudyInstanceUID = images[0].StudyInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = images[0].SeriesInstanceUID, []
    for number, image in enumerate(images):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        item.InstanceAvailability = availability.get(f"image_{number}", "ONLINE")
        item.RetrieveAETitle = "PACS"
        series.ReferencedSOPSequence.append(item)
    content.ReferencedSeriesSequence = [series]
    return content


def notify(node: Node, content: Dataset, uid: str | None = None, address: str = HERE) -> Dataset:
    """The response to the N-CREATE of an archive."""
    peer = associate(node, CONTEXTS, calling="PACS", bind_address=(address, 0))
    response, _ = peer.send_n_create(content, InstanceAvailabilityNotification, uid)
    peer.release()
    return response


def test_a_series_whose_images_are_all_named_and_here_is_complete_at_once(node: Node) -> None:
    images = ct_series(3, 16)
    send(node, images, "PACS")
    assert jobs_at_once(node) == 0
    assert notify(node, notification(images)).Status == 0x0000
    assert jobs_at_once(node) == 1
    assert ("instances available", "PACS names 3 images in 1 series") in timeline(node.engine)
    signal = next(text for kind, text in timeline(node.engine) if kind == "complete")
    assert "3 images, all that an Instance Availability Notification of PACS names" in signal


def test_a_series_waits_for_what_is_named_but_not_for_what_is_unavailable(node: Node) -> None:
    images = ct_series(4, 16)
    send(node, images[:2], "PACS")
    notify(node, notification(images, image_3="UNAVAILABLE"))
    assert jobs_at_once(node) == 0
    send(node, images[2:3], "PACS")
    assert jobs_at_once(node) == 1


def test_an_archive_that_may_still_be_sending_completes_nothing(node: Node) -> None:
    images = ct_series(2, 16)
    sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)], calling="PACS", bind_address=(HERE, 0))
    assert [send_dataset(sender, image).Status for image in images] == [0x0000, 0x0000]
    notify(node, notification(images))
    assert jobs_at_once(node) == 0
    sender.abort()


def test_an_image_that_is_not_named_keeps_the_series_open(node: Node) -> None:
    images = ct_series(3, 16)
    send(node, images, "PACS")
    notify(node, notification(images[:2]))
    assert jobs_at_once(node) == 0


def test_a_notification_of_another_device_completes_nothing(node: Node) -> None:
    images = ct_series(2, 16)
    send(node, images, "CT1")
    assert notify(node, notification(images), address=ELSEWHERE).Status == 0x0000
    assert jobs_at_once(node) == 0


def test_statuses_are_those_of_the_standard(node: Node) -> None:
    images, uid = ct_series(2, 16), generate_uid()
    assert notify(node, notification(images), uid).Status == 0x0000
    assert notify(node, notification(images), uid).Status == 0x0111
    assert say(node, uid, "COMPLETED", calling="PACS").Status == 0x0110
    (row,) = node.rows(procedure_step)
    assert (row.sop_instance_uid, row.state, row.named) == (uid, "AVAILABLE", 2)
    assert len(node.rows(procedure_step_instance)) == 2


@pytest.mark.parametrize("lacking", ["StudyInstanceUID", "ReferencedSeriesSequence"])
def test_a_notification_that_lacks_what_it_needs_is_refused(node: Node, lacking: str) -> None:
    content = notification(ct_series(1, 16))
    delattr(content, lacking)
    assert notify(node, content).Status == 0x0120
    assert node.rows(procedure_step) == []


def test_a_step_cannot_be_set_to_the_state_of_a_notification(node: Node) -> None:
    assert say(node, "1.2.3", "AVAILABLE").Status == 0x0106
