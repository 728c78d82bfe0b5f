"""Where the pixel data of a file begins, so that a file whose header has been read is not parsed a second time."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset, FileDataset
from pydicom.dataelem import RawDataElement
from pydicom.filereader import data_element_generator
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.studies.bounded_file import BoundedFile
from node.studies.pydicom_errors import NOT_DICOM

_DESCRIPTION = tuple(map(Tag, (
    "SOPInstanceUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)))  # fmt: skip
"""What decoding needs besides the pixel data (PS3.3 C.7.6.3), and the name of the image."""
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_ATTRIBUTE = "stored_pixel_data"
"""Of the header that it belongs to; a header made of others, as that of a frame, has none."""


@dataclass(frozen=True, kw_only=True)
class StoredPixelData:
    """Where pixel data that is not compressed begins, and in which encoding the file goes on."""

    position: int
    is_implicit_vr: bool
    is_little_endian: bool
    version: tuple[int, ...]
    """Of the file that the header was read from: see ``BoundedFile.version``."""


def note_pixel_data(header: FileDataset, file: BoundedFile) -> None:
    """Note on ``header`` where its pixel data is; ``file`` has just been read up to there."""
    if header.file_meta.get("TransferSyntaxUID") not in _NATIVE or not len(header):
        return
    last = [*header.values()][-1]
    if isinstance(last, RawDataElement):  # it knows how it was read, which the Transfer Syntax UID may not say
        place = StoredPixelData(
            position=file.tell(),
            is_implicit_vr=last.is_implicit_VR,
            is_little_endian=last.is_little_endian,
            version=file.version,
        )
        setattr(header, _ATTRIBUTE, place)


def behind_header(file: BoundedFile, header: Dataset) -> Dataset | None:
    """Return what stands in a file behind its header, with the description of its pixels as ``header`` has it.

    ``None`` when it is not known where that is, or the file is not the one that ``header`` was read from.
    """
    place: StoredPixelData | None = getattr(header, _ATTRIBUTE, None)
    if place is None or file.version != place.version:
        return None
    file.seek(place.position)
    try:
        elements = [*data_element_generator(file, place.is_implicit_vr, place.is_little_endian)]
    except NOT_DICOM:  # a file that is cut off: pydicom takes what it can when it reads all of it
        file.seek(0)
        return None
    described = {tag: header[tag] for tag in _DESCRIPTION if tag in header}
    dataset = Dataset({**described, **{element.tag: element for element in elements}})
    dataset.set_original_encoding(place.is_implicit_vr, place.is_little_endian)
    dataset.file_meta = header.file_meta
    return dataset
