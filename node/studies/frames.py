"""The frames of Enhanced multi-frame images as headers of single images, in the attributes of the classic IODs.

Everything behind this knows single images only. A frame keeps class and UID of the object it is stored in; Referenced
Frame Number (0008,1160) is its number there, the value that a reference to it needs.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.sequence import Sequence

_OF_ALL_FRAMES = frozenset({
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames",
    "DimensionIndexSequence", "DimensionOrganizationSequence",
})  # fmt: skip
_ELSEWHERE = frozenset({"DerivationImageSequence", "ReferencedImageSequence", "RealWorldValueMappingSequence"})
"""Functional groups that say nothing of the frame itself; a frame's own values are stored ones (PS3.3 C.7.6.16.2)."""


def split_frames(header: Dataset) -> tuple[Dataset, ...]:
    """One header per frame, in stored order; an image without functional groups as it is.

    The attributes of the frame's functional groups stand at the top level, its own before the shared ones.
    """
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return (header,)
    whole = Dataset()
    for element in header:
        if element.keyword not in _OF_ALL_FRAMES:
            whole.add(element)
    for group in _groups(header.get("SharedFunctionalGroupsSequence") or Sequence()):
        whole.update(group)
    frames = []
    for number, item in enumerate(per_frame, 1):
        frame = Dataset()
        frame.update(whole)
        for group in _groups(Sequence([item])):
            frame.update(group)
        if frame.get("FrameType"):
            frame.add_new("ImageType", "CS", frame.FrameType)
        frame.add_new("InstanceNumber", "IS", number)  # new ones: elements are shared with the other frames
        frame.add_new("ReferencedFrameNumber", "IS", number)
        if hasattr(header, "file_meta"):
            frame.file_meta = header.file_meta
        frames.append(frame)
    return tuple(frames)


def _groups(items: Sequence) -> Iterator[Dataset]:
    """The macros of one functional groups item; a macro of several items speaks of no single value."""
    for item in items[:1]:
        for element in item:
            if element.VR == "SQ" and element.keyword not in _ELSEWHERE and len(element.value) == 1:
                yield element.value[0]
