"""Enhanced multi-frame objects made of single images: the same pixels in the same places."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from dicom_files import ct_series
from pydicom import Dataset, FileDataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, MRImageStorage, generate_uid

_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
}
_PER_FRAME = ("PlanePositionSequence",)


def enhanced(images: Sequence[FileDataset], *, files: int = 1, shuffle: int | None = None) -> list[FileDataset]:
    """One Enhanced CT or MR of ``images``, or several files of them; ``shuffle``: seed of the order of the frames."""
    order = list(images)
    if shuffle is not None:
        order = [order[i] for i in np.random.default_rng(shuffle).permutation(len(order))]
    size = -(-len(order) // files)
    return [_object(order[i : i + size], i // size + 1) for i in range(0, len(order), size)]


def _object(images: Sequence[FileDataset], number: int) -> FileDataset:
    whole = deepcopy(images[0])
    whole.SOPClassUID = EnhancedCTImageStorage if whole.Modality == "CT" else EnhancedMRImageStorage
    whole.SOPInstanceUID = generate_uid()
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
    whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
    whole.InstanceNumber = number
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    for keywords in _GROUPS.values():
        for keyword in keywords:
            if keyword in whole:
                delattr(whole, keyword)
    whole.NumberOfFrames = len(images)
    whole.SharedFunctionalGroupsSequence = [_groups(images[0], [g for g in _GROUPS if g not in _PER_FRAME])]
    whole.PerFrameFunctionalGroupsSequence = [_groups(image, _PER_FRAME) for image in images]
    whole.PixelData = b"".join(image.PixelData for image in images)
    return whole


def _groups(image: Dataset, names: Sequence[str]) -> Dataset:
    item = Dataset()
    for name in names:
        group = Dataset()
        for keyword in _GROUPS[name]:
            if keyword in image:
                group.add(deepcopy(image[keyword]))
        if len(group):
            setattr(item, name, [group])
    return item


FOREIGN_UID = "1.2.826.0.1.3680043.2.1143.99"


def foreign(number: int = 1) -> Dataset:
    """A classic image of somebody else, as Philips keeps one for each frame in (2005,140F)."""
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID = MRImageStorage, f"{FOREIGN_UID}.{number}"
    item.StudyInstanceUID, item.SeriesInstanceUID = f"{FOREIGN_UID}.1000", f"{FOREIGN_UID}.1001"
    item.PatientID, item.PatientName, item.AccessionNumber = "SOMEBODY", "Else^Somebody", "A-ELSE"
    item.FrameOfReferenceUID, item.Modality, item.Rows = f"{FOREIGN_UID}.1002", "SR", 3
    return item


def with_private_groups(images: int = 4) -> Dataset:
    (whole,) = enhanced(ct_series(images, 16))
    for number, group in enumerate(whole.PerFrameFunctionalGroupsSequence, 1):
        block = group.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
        block.add_new(0x0F, "SQ", [foreign(number)])
        group.DerivationImageSequence = [foreign(number)]
        group.PlanePositionSequence[0].update(foreign(number))  # inside of a macro that does count
    return whole
