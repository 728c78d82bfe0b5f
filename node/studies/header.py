"""Headers: the data set of a file without its pixel data."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR

from node.errors import InputError
from node.studies.bounded_file import BoundedFile
from node.studies.pydicom_errors import NOT_DICOM


def read_header(path: Path) -> Dataset:
    """Read one file without its pixel data.

    Raises ``InputError`` naming the file when it is no DICOM, or when an attribute is a sequence that must not be one:
    the text of a sequence may take minutes to make.
    The processes of the node call it on received files in confined processes only: a small file can take any memory.
    """
    try:
        with BoundedFile(path) as file:
            header = dcmread(file, stop_before_pixels=True)
    except NOT_DICOM as error:
        raise InputError(f"{path.name}: cannot be read as DICOM ({error}); ask the sender for it again") from error
    for element in header.values():
        if element.VR == "SQ" and dictionary_has_tag(element.tag) and dictionary_VR(element.tag) != "SQ":
            raise InputError(
                f"{path.name}: {element.tag} is a sequence, which PS3.6 does not allow; correct it at the sender"
            )
    return header
