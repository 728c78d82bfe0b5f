"""Series in which each image states another Frame of Reference UID, as a faulty de-identification leaves them.

A series has one Frame of Reference (PS3.3 C.7.4.1.1.1), and a SEG has that of the images it refers to (A.51.1). No
object can have that of all these images. When everything else that places the images agrees, the series is treated as
one that states no Frame of Reference, and its results share a new one.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.uid import UID

from node.translation import sentence

_EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "StationName")
_LEAST_IMAGES = 3
"""Fewer images always have equal distances."""


def differs_in_every_image(images: Sequence[Dataset]) -> bool:
    """Return whether there are several images, and each states another Frame of Reference UID."""
    stated = {str(image.get("FrameOfReferenceUID") or "") for image in images}
    return len(images) > 1 and len(stated - {""}) == len(images)


def without_frame_of_reference(image: Dataset) -> Dataset:
    """Copy a header and leave out its Frame of Reference UID."""
    copy = Dataset()
    copy.update(image)
    del copy.FrameOfReferenceUID
    return copy


def may_be_shared(images: Sequence[Dataset]) -> bool:
    """Return whether the images are of one device, and enough for a regular grid to mean something."""
    devices = {tuple(str(image.get(keyword) or "") for keyword in _EQUIPMENT) for image in images}
    return len(images) >= _LEAST_IMAGES and len(devices) == 1


def shared_uid(series_instance_uid: str) -> UID:
    """Derive the Frame of Reference UID for the results of a series: a name-based UUID (PS3.5 B.2), always the same."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, series_instance_uid).int}")


def assumption(count: int) -> str:
    """Say in a report on ``count`` images that they were assumed to share a Frame of Reference."""
    return sentence(
        "Each of the {count} images states another Frame of Reference, as after a faulty de-identification. They were "
        "assumed to lie in one, because their positions, orientation and equipment agree.",
        count=count,
    )


def advice(count: int) -> str:
    """Say why a series of ``count`` images is not analysed, and how to repair it."""
    return sentence(
        "each of the {count} images states another Frame of Reference UID, as after a faulty de-identification, and "
        "their geometry or equipment does not show that they lie in one. To repair it, give all images of the series "
        "one Frame of Reference UID and send them as a new series",
        count=count,
    )
