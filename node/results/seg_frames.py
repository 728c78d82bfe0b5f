"""Frames of a SEG: their selection, functional groups and packed pixels.

A SEG of twenty organs has thousands of frames: what one image or one segment says is encoded once, a frame is put
together from encoded parts, and its pixels are packed when they are written.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING

import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sr.codedict import codes
from pydicom.valuerep import format_number_as_ds

from node.results.encoded_elements import encoded, raw_sequence, reference, sequence, text
from node.results.finding import Finding
from node.results.source_grid import PlacedMask

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Frame = tuple[Finding, int]
"""A segment on an image of the source, by its index."""
_INDEX_VALUES = struct.Struct("<II")


def frames_of(findings: Sequence[Finding]) -> list[Frame]:
    """Segment by segment, the images on which it has pixels."""
    return [(finding, index) for finding in findings for index in finding.mask.images]


def functional_groups(frames: Sequence[Frame], headers: Sequence[Dataset]) -> RawDataElement:
    """Per-Frame Functional Groups Sequence (PS3.3 C.7.6.16), Explicit VR Little Endian.

    Dimension Index Values are the segment number and the rank of the position along the slice normal.
    """
    used = sorted({index for _, index in frames})
    rank = {index: number for number, index in enumerate(used, 1)}
    derivation = dict(zip(used, _derivations([headers[index] for index in used]), strict=True))
    position = {index: _position(headers[index]) for index in used}
    segment = {number: encoded(_segment(number)) for number in {finding.number for finding, _ in frames}}
    content = encoded(_content())[: -_INDEX_VALUES.size]
    return raw_sequence(
        "PerFrameFunctionalGroupsSequence",
        (
            b"".join((
                derivation[index],
                content,
                _INDEX_VALUES.pack(finding.number, rank[index]),
                position[index],
                segment[finding.number],
            ))
            for finding, index in frames
        ),
    )  # fmt: skip


def packed(frames: Sequence[Frame], rows: int, columns: int) -> BufferedReader:
    """Pixel data as a file to read: one bit per pixel, frame after frame without padding (PS3.5 8.1.1, D)."""
    return BufferedReader(_Packed(frames, rows, columns), rows * columns)


class _Packed(RawIOBase):
    """Packs eight frames at a time, which are whole bytes whatever their size."""

    def __init__(self, frames: Sequence[Frame], rows: int, columns: int) -> None:
        self._frames = frames
        self._image = np.zeros((8, rows, columns), np.bool_)
        self._size = (len(frames) * rows * columns + 15) // 16 * 2
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Up to the end of the eight frames that the position lies in."""
        number, start = divmod(self._at, self._image[0].size)
        data = self._eight(number)[start:][: min(memoryview(buffer).nbytes, self._size - self._at)]
        memoryview(buffer)[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _eight(self, number: int) -> bytes:
        self._image[:] = False
        for target, (finding, index) in zip(self._image, self._frames[8 * number : 8 * number + 8], strict=False):
            box = finding.mask.box
            target[box[1], box[2]] = finding.mask.plane(index)
        return np.packbits(self._image, axis=None, bitorder="little").tobytes()


def overlap(findings: Sequence[Finding], shape: tuple[int, int]) -> bool:
    """Whether a pixel, of images of ``shape``, belongs to more than one segment."""
    on_image: dict[int, list[PlacedMask]] = defaultdict(list)
    for finding, index in frames_of(findings):
        on_image[index].append(finding.mask)
    for index, masks in on_image.items():
        taken = np.zeros(shape, np.bool_)
        for mask in masks:
            region = taken[mask.box[1], mask.box[2]]
            np.logical_or(region, mask.plane(index), out=region)
        if np.count_nonzero(taken) < sum(mask.areas[index - mask.box[0].start] for mask in masks):
            return True
    return False


def _derivations(headers: Sequence[Dataset]) -> list[bytes]:
    """Of each image: that the segmentation was derived from it."""
    alike = Dataset()
    alike.SpatialLocationsPreserved = "YES"
    alike.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    how = Dataset()
    how.DerivationCodeSequence = [CodedConcept("113076", "DCM", "Segmentation")]
    tail, derived = encoded(alike), encoded(how)
    return [
        sequence("DerivationImageSequence", sequence("SourceImageSequence", _referenced(header) + tail) + derived)
        for header in headers
    ]


def _referenced(header: Dataset) -> bytes:
    """Elements of a reference to one image or frame."""
    frame = header.get("ReferencedFrameNumber")
    number = b"" if frame is None else text("ReferencedFrameNumber", str(frame))
    return reference(header.SOPClassUID, header.SOPInstanceUID) + number


def _position(header: Dataset) -> bytes:
    values = "\\".join(format_number_as_ds(float(v)) for v in header.ImagePositionPatient)
    return sequence("PlanePositionSequence", text("ImagePositionPatient", values))


def _segment(number: int) -> Dataset:
    segment = Dataset()
    segment.ReferencedSegmentNumber = number
    group = Dataset()
    group.SegmentIdentificationSequence = [segment]
    return group


def _content() -> Dataset:
    content = Dataset()
    content.DimensionIndexValues = [0, 0]
    group = Dataset()
    group.FrameContentSequence = [content]
    return group
