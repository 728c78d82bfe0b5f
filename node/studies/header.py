"""Headers: the data set of a file without its pixel data."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmread

from node.errors import InputError
from node.studies.bounded_file import BoundedFile
from node.studies.pydicom_errors import NOT_DICOM


def read_header(path: Path) -> Dataset:
    """Read one file without its pixel data. Raises ``InputError`` naming the file when it is no DICOM.

    The processes of the node call it on received files in confined processes only: a small file can take any memory.
    """
    try:
        with BoundedFile(path) as file:
            return dcmread(file, stop_before_pixels=True)
    except NOT_DICOM as error:
        raise InputError(f"{path.name}: cannot be read as DICOM ({error}); ask the sender for it again") from error
