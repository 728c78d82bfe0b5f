"""The directory of a CD (DICOMDIR, PS3.3 F): which instances it names."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from node.confined import Bounds, ConfinedProcess
from node.errors import InputError
from node.receive.dataset_identity import read_identity
from node.spool import dataset_offset, is_uid
from node.studies.bounded_file import BoundedFile
from node.studies.pydicom_errors import NOT_DICOM
from node.upload.medium import MediumFile
from node.upload.part10_meta import Part10Meta

_INSTANCE = Tag("ReferencedSOPInstanceUIDInFile")
_BOUNDS = Bounds(memory_mib=2048, cpu_seconds=60, wall_seconds=120.0)
"""A CD holds at most some ten thousand images."""


def is_directory(meta: Part10Meta) -> bool:
    """Whether a file is the directory of a medium, which is no instance."""
    return meta.sop_class_uid == MediaStorageDirectoryStorage


def instances_of(directory: MediumFile) -> list[str]:
    """Return the SOP Instance UIDs that a directory names, read in a confined process.

    Raises ``InputError`` when it is damaged, ``PlatformError`` when the process cannot run.
    """
    with directory.on_disk() as path:
        reader = ConfinedProcess("reader of a DICOMDIR", readable=[path], bounds=_BOUNDS, decodes=False)
        try:
            return reader.call("DICOMDIR", read_directory, path)
        finally:
            reader.close()


def read_directory(path: Path) -> list[str]:
    """Read the SOP Instance UIDs (0004,1511) of a DICOMDIR. Raises ``InputError`` when it cannot be read."""
    try:
        with BoundedFile(path) as file:
            file.seek(dataset_offset(path))
            read_identity(file, ExplicitVRLittleEndian)  # raises when the end is missing, which pydicom accepts
            file.seek(0)
            records = dcmread(file).get("DirectoryRecordSequence") or ()
            # As bytes: a message of pydicom on a damaged value would show it, and it may be the name of a patient.
            values = [bytes(record.get_item(_INSTANCE).value) for record in records if _INSTANCE in record]
        uids = [value.decode("ascii").strip(" \0") for value in values]
    except (*NOT_DICOM, InputError) as error:
        raise InputError("the DICOMDIR is damaged; copy the medium again") from error
    if not all(map(is_uid, uids)):
        raise InputError("the DICOMDIR is damaged: it names an instance by what is no UID")
    return uids
