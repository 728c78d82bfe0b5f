"""Headers: the data set of a file without its pixel data."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.tag import BaseTag

from node.errors import InputError
from node.studies.bounded_file import BoundedFile
from node.studies.pydicom_errors import NOT_DICOM, UNREADABLE
from node.studies.stored_pixel_data import note_pixel_data


def read_header(path: Path) -> Dataset:
    """Read one file without its pixel data.

    Raises ``InputError`` naming the file when it is no DICOM, or when an attribute, also of an item, is a sequence that
    must not be one: the text of a sequence may take minutes and gigabytes to make.
    The processes of the node call it on received files in confined processes only: a small file can take any memory.
    """
    try:
        with BoundedFile(path) as file:
            header = dcmread(file, stop_before_pixels=True)
            note_pixel_data(header, file)
    except NOT_DICOM as error:
        raise InputError(f"{path.name}: cannot be read as DICOM ({error}); ask the sender for it again") from error
    if (tag := _misplaced_sequence(header)) is not None:
        raise InputError(f"{path.name}: {tag} is a sequence, which PS3.6 does not allow; correct it at the sender")
    return header


def _misplaced_sequence(dataset: Dataset) -> BaseTag | None:
    """Return the first attribute, also of items, that is a sequence and must not be one."""
    for element in dataset.values():
        if element.VR != "SQ":
            continue
        if dictionary_has_tag(element.tag) and dictionary_VR(element.tag) != "SQ":
            return element.tag
        with suppress(*UNREADABLE):  # a damaged sequence that nobody reads is no fault of the header
            for item in dataset[element.tag].value:
                if (tag := _misplaced_sequence(item)) is not None:
                    return tag
    return None
