"""Real peers for tests, on loopback and free ports: Orthanc with DICOMweb, and dcmtk's storescp and SCUs.

A test is skipped, with the reason, only where the program is not installed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest

from node.process.children import terminate

_PATH = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"
"""Where Debian puts the peers. Not ``$PATH``: a virtual environment holds pynetdicom programs of the same names."""
PLUGINS = Path("/usr/share/orthanc/plugins")
_START_SECONDS = 60.0


def program(name: str) -> str:
    """Path of an installed peer program; skips the test when it is missing."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian packages dcmtk, orthanc, orthanc-dicomweb)")
    return path


def _candidates() -> Iterator[int]:
    """Ports below those that the kernel gives to outgoing connections; each pytest-xdist worker has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 12000 + worker % 10 * 2000
    numbers = range(first, first + 2000)
    begin = random.randrange(len(numbers))  # test runs beside each other on one machine begin elsewhere
    return itertools.cycle([*numbers[begin:], *numbers[:begin]])


_CANDIDATES = _candidates()


def free_port() -> int:
    """A port on loopback that nobody listens on, and that this process does not give a second time soon."""
    for port in _CANDIDATES:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def dcmtk(
    name: str, *arguments: object, timeout: float = 120.0, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run one dcmtk program (``echoscu``, ``storescu``, ``dcmsend`` ...) to its end; output and error in ``stdout``.

    With ``check``, an exit status other than 0 fails the test and shows the output.
    """
    done = subprocess.run(
        [program(name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{name} ended with status {done.returncode}:\n{done.stdout}")
    return done


def _environment(folder: Path) -> dict[str, str]:
    """Orthanc 1.10 has no setting for its DICOM address; where a C compiler is at hand the bind itself is narrowed."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    compiler = shutil.which("cc")
    if compiler is not None:
        library = folder / "loopback.so"
        source = Path(__file__).with_name("loopback.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        environment["LD_PRELOAD"] = str(library)
    return environment


class Orthanc:
    """A throw-away Orthanc. Only this machine may call it, and only the AE titles in ``modalities`` may store."""

    def __init__(self, folder: Path, aet: str, modalities: Mapping[str, int], settings: Mapping[str, Any]) -> None:
        self.aet = aet
        self.host = "127.0.0.1"
        self.dicom_port = free_port()
        self.http_port = free_port()
        self.http_url = f"http://127.0.0.1:{self.http_port}"
        self.log = folder / "orthanc.log"
        self._program = program("Orthanc")
        dicomweb = PLUGINS / "libOrthancDicomWeb.so"
        if not dicomweb.exists():
            pytest.skip("Orthanc's DICOMweb plug-in is not installed (Debian package orthanc-dicomweb)")
        self._configuration = folder / "orthanc.json"
        self._process: subprocess.Popen[bytes] | None = None
        database = folder / "database"
        database.mkdir(parents=True, exist_ok=True)
        configuration = {
            "Name": "test",
            "StorageDirectory": str(database),
            "IndexDirectory": str(database),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": aet,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomCheckModalityHost": True,
            "DicomModalities": {title: [title, "127.0.0.1", port] for title, port in modalities.items()},
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,
            "StableAge": 1,
            "Plugins": [str(dicomweb)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **settings,
        }
        self._configuration.write_text(json.dumps(configuration, indent=1))
        self._environment = _environment(folder)

    def start(self) -> None:
        """Start, also again after ``stop`` or ``kill`` with the same ports and the same database."""
        # setpriv: a test run that is killed must not leave a PACS behind.
        command = ["setpriv", "--pdeathsig", "KILL", self._program, str(self._configuration)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.get("/system")
                socket.create_connection((self.host, self.dicom_port), 1.0).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"Orthanc did not start:\n{self.log.read_text()[-2000:]}") from None
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            terminate(self._process)
            self._process = None

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def get(self, path: str) -> Any:
        """JSON of the REST API, ``/system`` for example."""
        return json.loads(self._open(path))

    def post(self, path: str, body: Any) -> Any:
        return json.loads(self._open(path, json.dumps(body).encode()))

    def _open(self, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.http_url + path, body, method=method)  # noqa: S310 - our own http URL
        with opener.open(request, timeout=60.0) as response:
            return bytes(response.read())

    def _identifier(self, sop_instance_uid: str) -> str:
        identifiers = self.post("/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}})
        if len(identifiers) != 1:
            raise LookupError(f"the PACS holds {len(identifiers)} instances {sop_instance_uid}")
        return str(identifiers[0])

    def instances(self) -> list[str]:
        """SOP Instance UIDs it holds, sorted."""
        return sorted(entry["MainDicomTags"]["SOPInstanceUID"] for entry in self.get("/instances?expand"))

    def download(self, sop_instance_uid: str) -> pydicom.Dataset:
        """The instance as it is stored there, with its File Meta Information."""
        return pydicom.dcmread(BytesIO(self._open(f"/instances/{self._identifier(sop_instance_uid)}/file")))

    def upload(self, content: bytes) -> None:
        """Take a file over its own interface."""
        self._open("/instances", content)

    def delete(self, sop_instance_uid: str) -> None:
        """Lose the instance."""
        self._open(f"/instances/{self._identifier(sop_instance_uid)}", method="DELETE")

    def empty(self) -> None:
        """Lose everything, and the list of changes."""
        for patient in self.get("/patients"):
            self._open(f"/patients/{patient}", method="DELETE")
        self._open("/changes", method="DELETE")


@contextmanager
def orthanc(
    folder: Path, modalities: Mapping[str, int] | None = None, *, aet: str = "ORTHANC", **settings: Any
) -> Iterator[Orthanc]:
    """A running Orthanc with its data below ``folder``.

    ``modalities``: AE title -> port on this machine of the peers that may store into it and that it may call back
    (Storage Commitment, C-MOVE); port 1 when it never calls. Default: ``AINODE`` and dcmtk's ``STORESCU``, ``DCMSEND``,
    ``ECHOSCU``. ``settings`` are further keys of Orthanc's configuration.
    """
    default = {"AINODE": 1, "STORESCU": 1, "DCMSEND": 1, "ECHOSCU": 1}
    home = folder / f"orthanc-{aet.lower()}"
    home.mkdir(parents=True, exist_ok=True)
    peer = Orthanc(home, aet, {**default, **(modalities or {})}, settings)
    peer.start()
    try:
        yield peer
    finally:
        peer.kill()  # its good end takes seconds, and nobody looks at the database afterwards


class StoreScp:
    """dcmtk's storescp as under inetd: we listen on loopback, each association gets its own process."""

    def __init__(self, folder: Path, aet: str, options: tuple[str, ...]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.aet = aet
        self.host = "127.0.0.1"
        self.port = free_port()
        self._command = [program("storescp"), "--inetd", "--aetitle", aet, "--output-directory", str(folder), *options]
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._listener = socket.create_server((self.host, self.port))
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
        self._thread.start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                self._processes.append(
                    subprocess.Popen(self._command, stdin=connection, stdout=connection, stderr=subprocess.DEVNULL)
                )

    def stop(self) -> None:
        """Stop listening and end what is still open."""
        if self._listener is not None and self._thread is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join(10.0)
            self._listener = None
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def files(self) -> list[Path]:
        """What it stored, by name."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def instances(self) -> list[str]:
        """SOP Instance UIDs of what it stored, sorted."""
        read = (pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], force=True) for path in self.files())
        return sorted(str(dataset.SOPInstanceUID) for dataset in read)


@contextmanager
def storescp(folder: Path, *options: str, aet: str = "STORESCP") -> Iterator[StoreScp]:
    """A running storescp that stores below ``folder``; ``options`` as ``storescp --help`` lists them."""
    peer = StoreScp(folder / f"storescp-{aet.lower()}", aet, options)
    peer.start()
    try:
        yield peer
    finally:
        peer.stop()
