"""Modality Worklist SCPs of third parties: dcmtk's ``wlmscpfs`` and Orthanc's plug-in ModalityWorklists."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from real_peers import PLUGINS, free_port, program

from node.process.children import terminate

TITLE = "RISWL"
CHARACTER_SET = "ISO_IR 100"
_WORKLIST_FILE = "1.2.276.0.7230010.3.1.0.1"
"""The SOP Class that dcmtk gives to worklist files."""


def entry(**changed: Any) -> Dataset:
    """An entry of the worklist: a chest CT of PAT1 with accession number A1, STAT; ``changed``: by keyword.

    ``Modality`` and ``ScheduledProcedureStepStartDate`` are those of the scheduled step.
    """
    item, step, code = Dataset(), Dataset(), Dataset()
    item.SpecificCharacterSet = CHARACTER_SET
    step.Modality = changed.pop("Modality", "CT")
    step.ScheduledProcedureStepStartDate = changed.pop("ScheduledProcedureStepStartDate", "20260102")
    step.ScheduledProcedureStepStartTime = "101500"
    step.ScheduledStationAETitle = "CT1"
    step.ScheduledPerformingPhysicianName = ""
    step.ScheduledProcedureStepDescription = "CT thorax plain"
    step.ScheduledProcedureStepID = "S1"
    step.ScheduledStationName = step.ScheduledProcedureStepLocation = step.CommentsOnTheScheduledProcedureStep = ""
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTCHEST", "99RIS", "CT of the chest"
    values = {
        "AccessionNumber": "A1",
        "PatientID": "PAT1",
        "IssuerOfPatientID": "HOSP",
        "PatientName": "Müller^Anna",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyInstanceUID": str(generate_uid()),
        "RequestingPhysician": "Doe^John",
        "RequestedProcedureID": "RP1",
        "RequestedProcedurePriority": "STAT",
        "RequestedProcedureDescription": "CT of the chest",
        "ReasonForTheRequestedProcedure": "pulmonary nodule, größer?",
        "RequestedProcedureCodeSequence": [code],
        "PlacerOrderNumberImagingServiceRequest": "P1",
        "FillerOrderNumberImagingServiceRequest": "F1",
        "ScheduledProcedureStepSequence": [step],
    }
    for keyword, value in {**values, **changed}.items():
        setattr(item, keyword, value)
    return item


def write(folder: Path, *entries: Dataset) -> None:
    """Make these the entries of the worklist in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.wl"):
        file.unlink()
    for number, item in enumerate(entries):
        item.file_meta = FileMetaDataset()
        item.file_meta.MediaStorageSOPClassUID = _WORKLIST_FILE
        item.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.save_as(folder / f"{number}.wl", enforce_file_format=True)


class Wlmscpfs:
    """dcmtk's worklist; ``folder`` has its entries."""

    def __init__(self, root: Path) -> None:
        self.title, self.port = TITLE, free_port()
        self.folder = root / TITLE
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "lockfile").touch()
        self._root = root
        self._program = program("wlmscpfs")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # setpriv: a test run that is killed must not leave a worklist behind.
        command = ["setpriv", "--pdeathsig", "KILL", self._program, "-v", "-csk", "-dfr", "-dfp", str(self._root)]
        with (self._root / "wlmscpfs.log").open("ab") as log:
            self._process = subprocess.Popen([*command, str(self.port)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30.0
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline, (self._root / "wlmscpfs.log").read_text(errors="replace")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            terminate(self._process)
            self._process = None


@contextmanager
def wlmscpfs(root: Path, *entries: Dataset) -> Iterator[Wlmscpfs]:
    """dcmtk's worklist with these entries."""
    server = Wlmscpfs(root)
    write(server.folder, *entries)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def orthanc_settings(folder: Path) -> Mapping[str, Any]:
    """Settings of an Orthanc that serves the worklist in ``folder``."""
    plugin = PLUGINS / "libModalityWorklists.so"
    if not plugin.exists():
        pytest.skip("Orthanc's plug-in ModalityWorklists is not installed (Debian package orthanc)")
    return {
        "Plugins": [str(plugin)],
        "Worklists": {"Enable": True, "Database": str(folder)},
        "DicomAlwaysAllowFindWorklist": True,
    }
