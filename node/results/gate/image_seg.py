"""Segmentations of an image without a place in the patient: each frame is one segment on the pixels of its image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from node.results.analysis import Source
from node.results.headers import by_frame, frame_key

_PLANES = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def image_seg_faults(seg: Dataset, source: Source, numbers: Sequence[int]) -> Iterator[str]:
    """Frames and references of a SEG without a frame of reference (PS3.3 A.51: Derivation Image is required then)."""
    images, shared = by_frame(source.datasets), seg.SharedFunctionalGroupsSequence[0]
    if any("FrameOfReferenceUID" in image and "ImagePositionPatient" in image for image in images.values()):
        yield "FrameOfReferenceUID is missing, and the source has one"
    shown, named = [], set()
    for number, frame in enumerate(seg.PerFrameFunctionalGroupsSequence, 1):
        groups = [shared, frame]
        if any(keyword in group for keyword in _PLANES for group in groups):
            yield f"frame {number} states a place in the patient, and its image has none"
        identification = [item for group in groups for item in group.get("SegmentIdentificationSequence") or ()]
        shown += [int(item.ReferencedSegmentNumber) for item in identification]
        derivations = [derivation for group in groups for derivation in group.get("DerivationImageSequence") or ()]
        keys = [frame_key(item) for derivation in derivations for item in derivation.get("SourceImageSequence") or ()]
        if len(keys) != 1 or keys[0] not in images:
            yield f"frame {number} names {len(keys)} source images, or one that was not analysed"
            continue
        image = images[keys[0]]
        named.add(keys[0][0])
        if (seg.Rows, seg.Columns) != (image.Rows, image.Columns):
            yield f"Rows x Columns {seg.Rows} x {seg.Columns} are not the image's {image.Rows} x {image.Columns}"
    if shown != list(numbers):
        yield f"frames show segments {shown}, described are {list(numbers)}"
    if len(named) > 1:
        yield f"the frames are of {len(named)} images"
