"""The frames of a SEG: which there are, their functional groups, their packed pixels.

A SEG of twenty organs has thousands of frames. As data sets each costs milliseconds, so what one image or one segment
says is encoded once, and a frame is put together from encoded parts.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from node.results.finding import Finding

Frame = tuple[Finding, int]
"""A segment on an image of the source, by its index."""
_ITEM = struct.Struct("<HHI")
_INDEX_VALUES = struct.Struct("<II")


def frames_of(findings: Sequence[Finding]) -> list[Frame]:
    """Segment by segment, the images on which it has pixels."""
    return [
        (finding, finding.mask.box[0].start + int(index))
        for finding in findings
        for index in np.flatnonzero(finding.mask.voxels.any(axis=(1, 2)))
    ]


def functional_groups(frames: Sequence[Frame], headers: Sequence[Dataset]) -> RawDataElement:
    """Per-Frame Functional Groups Sequence (PS3.3 C.7.6.16), Explicit VR Little Endian.

    Dimension Index Values are the segment number and the rank of the position along the slice normal.
    """
    used = sorted({index for _, index in frames})
    rank = {index: number for number, index in enumerate(used, 1)}
    derivation = {index: _encoded(_derivation(headers[index])) for index in used}
    position = {index: _encoded(_position(headers[index])) for index in used}
    segment = {number: _encoded(_segment(number)) for number in {finding.number for finding, _ in frames}}
    content = _encoded(_content())[: -_INDEX_VALUES.size]
    parts: list[bytes] = []
    for finding, index in frames:
        values = _INDEX_VALUES.pack(finding.number, rank[index])
        item = b"".join((derivation[index], content, values, position[index], segment[finding.number]))
        parts += (_ITEM.pack(0xFFFE, 0xE000, len(item)), item)
    value = b"".join(parts)
    tag = Tag("PerFrameFunctionalGroupsSequence")
    return RawDataElement(tag, "SQ", len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def packed(frames: Sequence[Frame], rows: int, columns: int) -> NDArray[np.uint8]:
    """Pixel data, one bit per pixel, frame after frame without padding in between (PS3.5 8.1.1, D)."""
    size = rows * columns
    data = np.zeros((len(frames) * size + 15) // 16 * 2, np.uint8)
    image = np.zeros((8, rows, columns), np.bool_)
    for start in range(0, len(frames), 8):  # eight frames are whole bytes, whatever their size
        chunk = frames[start : start + 8]
        image[:] = False
        for target, (finding, index) in zip(image, chunk, strict=False):
            box = finding.mask.box
            target[box[1], box[2]] = finding.mask.voxels[index - box[0].start]
        bits = np.packbits(image[: len(chunk)], axis=None, bitorder="little")
        data[start * size // 8 : start * size // 8 + bits.size] = bits
    return data


def overlap(findings: Sequence[Finding], shape: tuple[int, int, int]) -> bool:
    """Whether a pixel belongs to more than one segment."""
    taken = np.zeros(shape, np.bool_)
    for finding in findings:
        region = taken[finding.mask.box]
        if (region & finding.mask.voxels).any():
            return True
        region |= finding.mask.voxels
    return False


def _derivation(header: Dataset) -> Dataset:
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if "ReferencedFrameNumber" in header:
        source.ReferencedFrameNumber = header.ReferencedFrameNumber
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    derivation = Dataset()
    derivation.SourceImageSequence = [source]
    derivation.DerivationCodeSequence = [CodedConcept("113076", "DCM", "Segmentation")]
    group = Dataset()
    group.DerivationImageSequence = [derivation]
    return group


def _position(header: Dataset) -> Dataset:
    plane = Dataset()
    plane.ImagePositionPatient = [format_number_as_ds(float(v)) for v in header.ImagePositionPatient]
    group = Dataset()
    group.PlanePositionSequence = [plane]
    return group


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


def _encoded(group: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, group)
    return buffer.getvalue()
