"""Functions on the files of objects, for a confined process: attributes as DICOM JSON (PS3.18 F), and frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.pixels.utils import get_expected_length, pixel_array
from pydicom.uid import UID

from node.confined import bounded
from node.errors import InputError, NotFoundError
from node.studies.bounded_file import BoundedFile
from node.studies.header import read_header
from node.studies.pixel_size import check_pixel_size
from node.studies.pydicom_errors import NOT_DICOM, UNDECODABLE, UNREADABLE

_FILE_SECONDS = 20.0
"""Of computing for one file."""
_LONGEST_INLINE = 4096
"""Bytes of a binary value in JSON; a longer one is left out, or has an address of its own."""
_DOCUMENT = "EncapsulatedDocument"


def attributes_as_json(paths: Sequence[Path], keywords: Sequence[str] = ()) -> list[str]:
    """Return the attributes of each file as a JSON object, ``"{}"`` for a file that cannot be read.

    ``keywords``: which attributes; none: all but pixel data, private ones and binary values beyond 4 KiB. Text is in
    Unicode, whatever character set the file has.
    """
    return [_as_json(path, keywords) for path in paths]


def _as_json(path: Path, keywords: Sequence[str]) -> str:
    try:
        with bounded(path.name, _FILE_SECONDS):
            header = read_header(path)
            if keywords:
                wanted = Dataset()
                for keyword in keywords:
                    if keyword in header:
                        wanted[keyword] = header[keyword]
                header = wanted
            else:
                header.remove_private_tags()
            values = header.to_json_dict(
                bulk_data_threshold=_LONGEST_INLINE, bulk_data_element_handler=lambda _: "", suppress_invalid_tags=True
            )
    except (InputError, *UNREADABLE):
        return "{}"
    values = {tag: value for tag, value in values.items() if "BulkDataURI" not in value}
    if "00080005" in values or not keywords:
        values["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return json.dumps(values)


def frames_of(path: Path, frames: Sequence[int], *, decoded: bool) -> list[bytes]:
    """Return frames (from 1) of an image: as they are stored, or ``decoded`` to little-endian samples.

    Raises ``NotFoundError`` when the file has no such frame, ``InputError`` when it cannot be read.
    """
    try:
        with BoundedFile(path) as file:
            dataset = dcmread(file)
        count = int(dataset.get("NumberOfFrames") or 1)
        if "PixelData" not in dataset or not all(1 <= frame <= count for frame in frames):
            raise NotFoundError(f"the object has {count if 'PixelData' in dataset else 'no'} frames")
        if not decoded:
            return [get_frame(dataset.PixelData, frame - 1, number_of_frames=count) for frame in frames]
        check_pixel_size(dataset)
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        if not syntax.is_encapsulated and syntax.is_little_endian and int(dataset.BitsAllocated) > 1:
            length = get_expected_length(dataset) // count
            return [dataset.PixelData[(frame - 1) * length : frame * length] for frame in frames]
        return [_samples(dataset, frame - 1) for frame in frames]
    except (*UNDECODABLE, *NOT_DICOM) as error:
        raise InputError(f"the frames cannot be read: {error}") from error


def _samples(dataset: Dataset, index: int) -> bytes:
    pixels = pixel_array(dataset, index=index, raw=True)
    if pixels.ndim == 3 and dataset.get("PlanarConfiguration") == 1:
        pixels = pixels.transpose(2, 0, 1)
    if int(dataset.BitsAllocated) == 1:
        return np.packbits(pixels.ravel().astype(np.uint8), bitorder="little").tobytes()
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def document_of(path: Path) -> bytes:
    """Return the document of an encapsulated one, such as a PDF. Raises ``InputError``."""
    try:
        with BoundedFile(path) as file:
            dataset = dcmread(file)
        return bytes(dataset[_DOCUMENT].value)
    except NOT_DICOM as error:
        raise InputError(f"the document cannot be read: {error}") from error
