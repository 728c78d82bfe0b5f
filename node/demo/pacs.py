"""The PACS of the demonstration: Orthanc where it is installed, else a small archive on pynetdicom.

Both serve this machine, or the machines of the demonstration, and keep their data in one folder.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification

from node.errors import PlatformError
from node.process import loopback
from node.process.children import bound_to_parent, terminate

logger = logging.getLogger(__name__)

TITLE = "DEMOPACS"
PLUGINS = Path("/usr/share/orthanc/plugins")
"""Where Debian's orthanc-dicomweb puts its plug-in."""
START_SECONDS = 60.0


@dataclass(frozen=True)
class HeldSeries:
    """One series in the archive, in the words of its own headers."""

    study_instance_uid: str
    series_instance_uid: str
    patient_name: str
    study_description: str
    modality: str
    description: str
    sop_instance_uids: tuple[str, ...]


class Pacs(Protocol):
    """What the demonstration asks of an archive."""

    host: str
    """Address for the nodes."""
    port: int
    """DICOM port there."""
    web_url: str
    """Where a person can look at it; empty when it has no pages."""
    commitment: bool
    """Whether it answers Storage Commitment."""

    def start(self) -> None:
        """Raises ``PlatformError`` when it does not come up."""

    def stop(self) -> None: ...

    def running(self) -> bool:
        """False once it has ended by itself."""

    def series(self) -> list[HeldSeries]:
        """Everything it holds, by study, then modality and description."""

    def fetch(self, sop_instance_uid: str) -> Dataset:
        """One instance as it is stored there."""


Callers = Mapping[str, tuple[str, int]]
"""AE title -> address and port of those who may store into a PACS."""


def make_pacs(folder: Path, callers: Callers, host: str = loopback.HERE) -> Pacs:
    """The best archive this machine can run, for nodes that call it by the address ``host``."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    return OrthancPacs(folder, program, callers, host) if program else SmallPacs(folder, host)


class OrthancPacs:
    """Orthanc as a child process, with DICOMweb when its plug-in is installed."""

    commitment = True

    def __init__(self, folder: Path, program: str, callers: Callers, host: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.port = loopback.free_port()
        http_port = loopback.free_port()
        self.web_url = f"http://127.0.0.1:{http_port}"
        self._log = folder / "orthanc.log"
        self._keys: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        plugin = PLUGINS / "libOrthancDicomWeb.so"
        self.dicomweb = plugin.exists()
        settings = {
            "Name": "AI node demonstration",
            "StorageDirectory": str(folder / "database"),
            "IndexDirectory": str(folder / "database"),
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": TITLE,
            "DicomPort": self.port,
            # It has no option to listen on one address only: refuse every caller that is not named, or elsewhere.
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,
            "DicomModalities": {title: [title, *address] for title, address in callers.items()},
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,
            "StableAge": 1,
            "Plugins": [str(plugin)] if self.dicomweb else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps(settings, indent=1))
        self._command = [*bound_to_parent("KILL"), program, str(configuration)]

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._json("/system")
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise PlatformError(f"Orthanc did not start; its log {self._log} says why") from None
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        if self._process is not None:
            terminate(self._process)
            self._process = None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def series(self) -> list[HeldSeries]:
        studies = {entry["ID"]: entry for entry in self._json("/studies?expand")}
        instances: dict[str, list[str]] = defaultdict(list)
        for entry in self._json("/instances?expand"):
            uid = entry["MainDicomTags"]["SOPInstanceUID"]
            self._keys[uid] = entry["ID"]
            instances[entry["ParentSeries"]].append(uid)
        held = []
        for entry in self._json("/series?expand"):
            study, tags = studies[entry["ParentStudy"]], entry["MainDicomTags"]
            held.append(
                HeldSeries(
                    study_instance_uid=study["MainDicomTags"]["StudyInstanceUID"],
                    series_instance_uid=tags["SeriesInstanceUID"],
                    patient_name=study["PatientMainDicomTags"].get("PatientName", ""),
                    study_description=study["MainDicomTags"].get("StudyDescription", ""),
                    modality=tags.get("Modality", ""),
                    description=tags.get("SeriesDescription", ""),
                    sop_instance_uids=tuple(sorted(instances[entry["ID"]])),
                )
            )
        return sorted(held, key=_order)

    def fetch(self, sop_instance_uid: str) -> Dataset:
        if sop_instance_uid not in self._keys:
            self.series()
        return pydicom.dcmread(BytesIO(loopback.get(f"{self.web_url}/instances/{self._keys[sop_instance_uid]}/file")))

    def _json(self, path: str) -> Any:
        return json.loads(loopback.get(self.web_url + path))


class SmallPacs:
    """A Storage and Verification SCP that writes files and remembers their headers; no query, no pages."""

    commitment = False
    web_url = ""

    def __init__(self, folder: Path, host: str = loopback.HERE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        self._folder = folder
        self._lock = threading.Lock()
        self._headers: dict[str, tuple[Path, Dataset]] = {}
        self._ae = AE(ae_title=TITLE)
        # Classes unknown to this list cannot be kept here: the node shows such a refusal, as with any PACS.
        for context in AllStoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax, list(AllTransferSyntaxes))
        self._ae.add_supported_context(Verification)
        self._server: Any = None
        self.port = loopback.free_port()

    def start(self) -> None:
        handlers = [(evt.EVT_C_STORE, self._keep)]
        self._server = self._ae.start_server((self.host, self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def running(self) -> bool:
        return self._server is not None

    def _keep(self, event: Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        path = self._folder / f"{UID(uid)}.dcm"
        if not UID(uid).is_valid:
            return 0xC000  # PS3.4 table B.2-1: cannot understand
        path.write_bytes(event.encoded_dataset())
        header = pydicom.dcmread(path, stop_before_pixels=True)
        with self._lock:
            self._headers[uid] = (path, header)
        return 0x0000

    def series(self) -> list[HeldSeries]:
        with self._lock:
            headers = [header for _, header in self._headers.values()]
        groups: dict[str, list[Dataset]] = defaultdict(list)
        for header in headers:
            groups[str(header.SeriesInstanceUID)].append(header)
        held = [
            HeldSeries(
                study_instance_uid=str(first.StudyInstanceUID),
                series_instance_uid=uid,
                patient_name=str(first.get("PatientName", "")),
                study_description=str(first.get("StudyDescription", "")),
                modality=str(first.get("Modality", "")),
                description=str(first.get("SeriesDescription", "")),
                sop_instance_uids=tuple(sorted(str(header.SOPInstanceUID) for header in group)),
            )
            for uid, group in groups.items()
            for first in group[:1]
        ]
        return sorted(held, key=_order)

    def fetch(self, sop_instance_uid: str) -> Dataset:
        with self._lock:
            path, _ = self._headers[sop_instance_uid]
        return pydicom.dcmread(path)


def _order(held: HeldSeries) -> tuple[str, str, str]:
    return held.study_instance_uid, held.modality, held.description
