"""The receivers that are compared. Each is started fresh, on loopback, with its files in one folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

from node.errors import PlatformError
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.file_digests import all_paths
from node.process import loopback
from node.process.children import bound_to_parent, terminate

TITLE = "BENCH"
DCMTK_PATH = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
"""Not ``$PATH``: pynetdicom installs a program of the name storescp, too."""
DCMTK_ENVIRONMENT = {"TCP_NODELAY": "1", "TCP_BUFFER_LENGTH": "262144"}
"""Without it dcmtk answers in two packets, the second 40 ms later: 20 instances a second, whatever else is measured."""
_START_SECONDS = 60.0


def give_back_space(folder: Path) -> None:
    """Empty the files of a folder. They are deleted when all is measured, not before.

    Without a journal ext4 steps over every inode that was deleted in the last minutes when it makes a new one
    (``recently_deleted`` in fs/ext4/ialloc.c): what one run deletes would make the next one slower.
    """
    for file in folder.rglob("*"):
        if file.is_file():
            os.truncate(file, 0)


class Server(ABC):
    """One receiver. ``missing`` says what it lacks on this machine, before it is made."""

    name: str
    title: str
    durable: str
    """What is on the disk before Success is sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = loopback.free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """The package or program that is not installed; empty: it can be run."""
        return ""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line; may write its configuration."""

    def environment(self) -> dict[str, str]:
        """More variables for it."""
        return {}

    @property
    def ca(self) -> str:
        """PEM file with the authority of its certificate; empty: it speaks plain DICOM."""
        return ""

    @abstractmethod
    def stored_instances(self) -> int:
        """Instances that it holds now."""

    def ready(self) -> bool:
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        return True

    @property
    def log(self) -> Path:
        """Its log, next to its folder."""
        return self.folder.with_suffix(".log")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise PlatformError(f"{self.title} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it listens. Raises ``PlatformError`` when it does not."""
        self.folder.mkdir(parents=True)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [*bound_to_parent("KILL"), *self.command()],
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment()},
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self.ready():
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                log_end = self.log.read_text(errors="replace")[-1000:]
                raise PlatformError(f"{self.title} did not start: {log_end or 'it said nothing'}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and give back the space of what it received."""
        if self._process is not None:
            terminate(self._process)
            self._process = None
        give_back_space(self.folder)


class Node(Server):
    """Our own receiver, as ``ainode run --only receiver`` starts it, with its defaults."""

    name = "node"
    title = "this node"
    durable = "file, folder and row"

    def command(self) -> list[str]:
        configuration = self.folder / "config.toml"
        configuration.write_text(
            f'[ae]\ntitle = "{TITLE}"\naddress = "127.0.0.1"\nport = {self.port}\nmax_associations = 200\n'
            "associations_per_minute = 0\nconnections_per_address = 0\n"
            f'[storage]\nfolder = "{self.folder / "spool"}"\nmin_free_gib = 0.0\n'
        )
        return [sys.executable, "-m", "node", "run", "--config", str(configuration), "--only", "receiver"]

    def environment(self) -> dict[str, str]:
        return {"AINODE_LOG": "INFO"}

    def ready(self) -> bool:
        return b"node ready" in self.log.read_bytes()  # all its processes are

    def stored_instances(self) -> int:
        spool = self.folder / "spool"
        engine = open_ledger(ledger_url("", spool))
        with engine.connect() as connection:
            paths = all_paths(connection)
        engine.dispose()
        return sum((spool / path).exists() for path in paths)


class NodeTls(Node):
    """The same over TLS, with a certificate of its own; the scripted sender shows none."""

    name = "node-tls"
    title = "this node, TLS"

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("openssl") else "program openssl"

    @property
    def ca(self) -> str:
        return str(self.folder / "node.pem")

    def command(self) -> list[str]:
        key = str(self.folder / "node.key")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=bench"]
        make = ["openssl", "req", "-x509", *curve, "-keyout", key, "-out", self.ca]
        subprocess.run(make, check=True, capture_output=True)
        command = super().command()
        with (self.folder / "config.toml").open("a", encoding="utf-8") as file:
            file.write(
                f'[ae.tls]\nenabled = true\ncertificate = "{self.ca}"\nkey = "{key}"\nca = "{self.ca}"\n'
                "require_client_certificate = false\n"
            )
        return command


class StoreScp(Server):
    """dcmtk's storescp, a process for each association, writing the bytes as they came."""

    name = "storescp"
    title = "dcmtk storescp --fork"
    durable = "file" if shutil.which("cc") else "no (there is no C compiler for the wrapper that syncs)"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._library = folder.with_suffix(".so")
        if compiler := shutil.which("cc"):
            source = Path(__file__).with_name("fsync.c")
            subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", self._library, source, "-ldl"], check=True)

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("storescp", path=DCMTK_PATH) else "Debian package dcmtk"

    def command(self) -> list[str]:
        program = shutil.which("storescp", path=DCMTK_PATH) or "storescp"
        options = ["--fork", "--disable-host-lookup", "--bit-preserving", "--max-pdu", "131072"]
        return [program, *options, "--aetitle", TITLE, "--output-directory", str(self.folder), str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**DCMTK_ENVIRONMENT, **({"LD_PRELOAD": str(self._library)} if self._library.exists() else {})}

    def stored_instances(self) -> int:
        return sum(1 for _ in self.folder.iterdir())


class Orthanc(Server):
    """Orthanc with its SQLite index and its defaults, but for the length of a PDU and dcmtk's environment."""

    name = "orthanc"
    title = "Orthanc"
    durable = "no"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._http_port = loopback.free_port()

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("Orthanc", path=DCMTK_PATH) else "Debian package orthanc"

    def command(self) -> list[str]:
        configuration = self.folder / "orthanc.json"
        configuration.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(self.folder / "database"),
                    "IndexDirectory": str(self.folder / "database"),
                    "HttpPort": self._http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomAet": TITLE,
                    "DicomPort": self.port,
                    # It listens on every address: take nothing but what this machine sends.
                    "DicomAlwaysAllowStore": False,
                    "DicomCheckModalityHost": True,
                    "DicomModalities": {TITLE: [TITLE, "127.0.0.1", 1]},
                    "MaximumPduLength": 131072,
                    "Plugins": [],
                }
            )
        )
        return [shutil.which("Orthanc", path=DCMTK_PATH) or "Orthanc", str(configuration)]

    def environment(self) -> dict[str, str]:
        return {**DCMTK_ENVIRONMENT, "LC_ALL": "C.UTF-8"}

    def stored_instances(self) -> int:
        return int(json.loads(loopback.get(f"http://127.0.0.1:{self._http_port}/statistics"))["CountInstances"])


class PlainPynetdicom(Server):
    """``plain.py`` in a process of its own."""

    name = "pynetdicom"
    title = "plain pynetdicom handler"
    durable = "no"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "node.bench.plain", str(self.port), str(self.folder)]

    def stored_instances(self) -> int:
        return sum(1 for _ in self.folder.iterdir())


_ALL: tuple[type[Server], ...] = (Node, NodeTls, StoreScp, Orthanc, PlainPynetdicom)
SERVERS = {server.name: server for server in _ALL}
"""By the names that ``--peers`` takes."""
