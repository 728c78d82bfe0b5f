"""A receiver for tests, in this process or in one of its own to kill, and a peer that may send anything."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dicom_files import ct_series
from ledgers import open_copy
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context
from real_peers import free_port

from node.config import Config, parse
from node.deliver.association import keep_answers
from node.ledger.engine import ledger_url
from node.ledger.tables import association as associations
from node.ledger.tables import instance
from node.membership import Membership, new_member
from node.receive import Receiver
from node.spool import Spool

_START_SECONDS = 60.0
SOON_SECONDS = 25.0
"""Long enough for a machine under load, and less than 60 s, the timer that would end a wait for a silent peer."""


def configuration(folder: Path, port: int, ae: str = "", storage: str = "min_free_gib = 0.0") -> str:
    """TOML of a node on loopback; ``ae`` and ``storage`` are more lines of these tables."""
    return f"""
[ae]
address = "127.0.0.1"
port = {port}
{ae}
[storage]
folder = "{folder}"
{storage}
"""


def member(engine: sa.Engine, spool: Spool) -> Membership:
    """A receiver's membership without a heartbeat: others know from the lock of its folder that it is alive."""
    return Membership(engine, replace(new_member("receiver"), id=spool.drafts.writer))


class Node:
    """What a receiver left behind, read from its folder."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.port = config.ae.port
        self.spool = Spool(config.storage.folder)
        self.engine = open_copy(ledger_url(config.storage.ledger_url, config.storage.folder))

    def rows(self, table: sa.Table) -> list[Any]:
        """Rows, after those that follow their files have come."""
        deadline = time.monotonic() + 5.0
        while self._behind() and time.monotonic() < deadline:
            time.sleep(0.01)
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(table)).all())

    def _behind(self) -> bool:
        """Whether a kept file still has the second name that goes when its row is written."""
        for path in self.spool.folder.glob("temporary/*/*"):
            try:
                if path.stat().st_nlink > 1:
                    return True
            except FileNotFoundError:
                continue
        return False

    def files(self) -> list[str]:
        """Everything in the spool but the ledger, temporaries included, when no row is awaited any more."""
        until(lambda: not self._behind())
        paths = (path for path in self.spool.folder.rglob("*") if path.is_file())
        return sorted(str(p.relative_to(self.spool.folder)) for p in paths if not p.name.startswith("ledger."))


@contextmanager
def receiving(folder: Path, ae: str = "", storage: str = "min_free_gib = 0.0", port: int = 0) -> Iterator[Node]:
    """A receiver in this process, on a free port unless one is given."""
    node = Node(parse(configuration(folder, port or free_port(), ae, storage)))
    receiver = Receiver(node.config, node.engine, node.spool, member(node.engine, node.spool))
    receiver.start()
    try:
        yield node
    finally:
        receiver.stop(grace_seconds=2.0)
        node.engine.dispose()


class ReceiverProcess:
    """A receiver in a process of its own; start it again after ``kill``."""

    def __init__(
        self, folder: Path, ae: str = "", storage: str = "min_free_gib = 0.0", limit_file_bytes: int = 0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = configuration(folder / "node", free_port(), ae, storage)
        self._file = folder / "config.toml"
        self._file.write_text(text)
        self._log = folder / "receiver.log"
        self._limit = limit_file_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self.config = parse(text)
        self.port = self.config.ae.port

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, self._file, str(self._limit)],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"receiver did not start:\n{self.log()}") from None
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30.0)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """CPU time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        return self._log.read_text()

    def node(self) -> Node:
        return Node(self.config)


def associate(
    node: Node | ReceiverProcess,
    contexts: Sequence[tuple[str, str | Sequence[str]]],
    *,
    calling: str = "PEER",
    called: str = "AINODE",
    **options: Any,
) -> Association:
    """A pynetdicom association with (abstract syntax, transfer syntaxes); look at ``is_established`` yourself."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    proposed = [build_context(abstract, transfer) for abstract, transfer in contexts]  # type: ignore[arg-type]
    return keep_answers(entity.associate("127.0.0.1", node.port, proposed, ae_title=called, **options))


def nothing_kept(node: Node) -> bool:
    """No file, no row, not of an association either."""
    return node.files() == [] and node.rows(instance) == [] and node.rows(associations) == []


def store_works(node: Node) -> bool:
    """Whether a new association may store an image."""
    sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
    if not sender.is_established:
        return False
    status = send_dataset(sender, ct_series(1)[0]).Status
    sender.release()
    return bool(status == 0x0000)


def encode(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set as it travels."""
    uid = UID(transfer_syntax)
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = uid.is_implicit_VR, uid.is_little_endian
    write_dataset(stream, Dataset({e.tag: e for e in dataset if e.tag.group > 2}))
    data = stream.getvalue()
    return deflate(data) if uid == DeflatedExplicitVRLittleEndian else data


def deflate(data: bytes) -> bytes:
    """Raw deflate (RFC 1951), padded to even length as PS3.5 A.5 has it."""
    import zlib

    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = compressor.compress(data) + compressor.flush()
    return data + b"\0" * (len(data) % 2)


def send(
    association: Association, sop_class: str | None, sop_instance: str | None, data: bytes | None, context: int = 0
) -> C_STORE:
    """Send one C-STORE-RQ with exactly these values (``None``: left out); return the response."""
    request = C_STORE()
    request.MessageID = 7
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop_instance
    request.Priority = 0
    request.DataSet = BytesIO(data) if data is not None else None
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, context or association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert isinstance(response, C_STORE), f"no C-STORE-RSP but {response!r}"
    return response


def send_dataset(association: Association, dataset: Dataset) -> C_STORE:
    """Send a data set as its own UIDs say, in the first accepted context."""
    syntax = association.accepted_contexts[0].transfer_syntax[0]
    return send(association, dataset.SOPClassUID, dataset.SOPInstanceUID, encode(dataset, syntax))


def drop(association: Association) -> None:
    """Close the socket of an association whose peer was killed; pynetdicom leaves it open."""
    association.kill()
    wrapped = association.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.close()


def associate_rq(
    contexts: Sequence[tuple[str, Sequence[str]]], *, called: bytes = b"AINODE", calling: bytes = b"RAW"
) -> bytes:
    """An A-ASSOCIATE-RQ PDU byte by byte (PS3.8 9.3.2)."""

    def item(kind: int, value: bytes) -> bytes:
        return bytes([kind, 0]) + len(value).to_bytes(2, "big") + value

    body = b"\0\1\0\0" + called.ljust(16) + calling.ljust(16) + bytes(32) + item(0x10, b"1.2.840.10008.3.1.1.1")
    for index, (abstract, transfer) in enumerate(contexts):
        syntaxes = b"".join(item(0x40, uid.encode()) for uid in transfer)
        body += item(0x20, bytes([2 * index + 1, 0, 0, 0]) + item(0x30, abstract.encode()) + syntaxes)
    body += item(0x50, item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3.4"))
    return b"\1\0" + len(body).to_bytes(4, "big") + body


def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for a condition; fail when it does not come.

    One that takes long is asked less often, so that asking takes no more than a fifth of the time.
    """
    began = time.monotonic()
    deadline = began + seconds
    while not condition():
        asked = time.monotonic()
        assert asked < deadline, "it did not happen in time"
        time.sleep(min(max(0.02, 4 * (asked - began)), 0.5))
        began = time.monotonic()


def _main(config_file: str, limit_file_bytes: str) -> None:
    import logging
    import resource

    logging.basicConfig(level=logging.INFO)
    if int(limit_file_bytes):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_file_bytes),) * 2)
    node = Node(parse(Path(config_file).read_text()))
    receiver = Receiver(node.config, node.engine, node.spool, member(node.engine, node.spool))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    receiver.start()
    stopped.wait()
    receiver.stop()


if __name__ == "__main__":
    _main(*sys.argv[1:])
