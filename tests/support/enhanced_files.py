"""Enhanced multi-frame objects made of single images: the same pixels in the same places."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, generate_uid

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
