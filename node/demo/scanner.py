"""The scanner of the demonstration: finds DICOM files in a folder and sends them as a modality would."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE

from node.deliver.association import keep_answers
from node.errors import InputError, PlatformError

TITLE = "DEMOSCANNER"
STORESCU = Path("/usr/bin/storescu")
"""dcmtk's storescu. The PATH is not searched: pynetdicom installs a program of the same name."""
BATCH = 500
"""Files of one association."""
_PROPOSALS = {
    ExplicitVRLittleEndian: "-xe",
    ImplicitVRLittleEndian: "-xi",
    ExplicitVRBigEndian: "-xb",
    DeflatedExplicitVRLittleEndian: "-xd",
    RLELossless: "-xr",
    JPEGBaseline8Bit: "-xy",
    JPEGExtended12Bit: "-xx",
    JPEGLosslessSV1: "-xs",
    JPEGLSLossless: "-xt",
    JPEGLSNearLossless: "-xu",
    JPEG2000Lossless: "-xv",
    JPEG2000: "-xw",
}
"""Transfer syntax of a file -> dcmtk's option that proposes it."""


@dataclass(frozen=True)
class DicomFile:
    """One DICOM file and what the demonstration must know of it."""

    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    description: str


def find(folder: Path) -> tuple[DicomFile, ...]:
    """Every DICOM file below ``folder`` (whatever its name). Raises ``InputError`` when there is none."""
    files = tuple(_read(path for path in sorted(folder.rglob("*")) if path.is_file()))
    if not files:
        raise InputError(f"STUDIES {folder}: no DICOM file there; give a folder with DICOM files")
    return files


def _read(paths: Iterable[Path]) -> Iterator[DicomFile]:
    for path in paths:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, EOFError):
            continue
        if "SeriesInstanceUID" in header and "SOPInstanceUID" in header:  # not a DICOMDIR
            yield DicomFile(
                path,
                str(header.SOPClassUID),
                str(header.file_meta.TransferSyntaxUID),
                str(header.StudyInstanceUID),
                str(header.SeriesInstanceUID),
                str(header.get("Modality", "")),
                str(header.get("SeriesDescription", "")),
            )


def send(files: Sequence[DicomFile], to: tuple[str, int], called_title: str) -> str:
    """Send to an address and port with dcmtk's storescu, or pynetdicom where that is missing; returns which was used.

    Raises ``PlatformError`` when the peer does not take them.
    """
    groups: dict[str, list[DicomFile]] = defaultdict(list)
    for file in files:
        groups[file.transfer_syntax_uid].append(file)
    tool = "pynetdicom"
    for syntax, group in groups.items():
        option = _PROPOSALS.get(UID(syntax))
        for start in range(0, len(group), BATCH):
            batch = group[start : start + BATCH]
            if option and STORESCU.exists():
                _send_dcmtk(batch, to, called_title, option)
                tool = "storescu"
            else:
                _send_pynetdicom(batch, to, called_title)
    return tool


def _send_dcmtk(batch: Sequence[DicomFile], to: tuple[str, int], called_title: str, option: str) -> None:
    # -R: only the contexts that these files need; without it dcmtk's list lacks many classes.
    # A refused image is the receiver's right and shows in its ledger: the others still go.
    titles = ["-aet", TITLE, "-aec", called_title]
    command = [
        str(STORESCU),
        "-R",
        "--no-halt",
        option,
        *titles,
        *map(str, to),
        *(str(file.path) for file in batch),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        shown = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise PlatformError(
            f"storescu to {called_title} at {to[0]} port {to[1]} ended with status {done.returncode}:\n{shown}"
        )


def _send_pynetdicom(batch: Sequence[DicomFile], to: tuple[str, int], called_title: str) -> None:
    ae = AE(ae_title=TITLE)
    for sop_class, syntax in sorted({(file.sop_class_uid, file.transfer_syntax_uid) for file in batch}):
        ae.add_requested_context(sop_class, syntax)
    association = keep_answers(ae.associate(*to, ae_title=called_title))
    if not association.is_established:
        raise PlatformError(f"no association with {called_title} at {to[0]} port {to[1]}; is it running?")
    try:
        for file in batch:
            status = association.send_c_store(str(file.path))
            if "Status" not in status:
                raise PlatformError(
                    f"{called_title} at {to[0]} port {to[1]} gave no answer to C-STORE of {file.path.name}"
                )
    finally:
        association.release()
