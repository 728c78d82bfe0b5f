"""One scene for each tier of stored files, with the same verbs: keep, cut a draft off, alter, fall silent, purge.

Of study 1.1; every case has a series of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from fleet_machines import FleetMachine
from packed_series import STUDY, PackedSeries
from receipts import receipt
from s3_server import Proxy

from node.fleet.copy_frames import DATA
from node.fleet.housekeeping import Housekeeping
from node.fleet.second_copy import SentCopies
from node.ledger.engine import begin_immediate
from node.ledger.holdings import RecordedFile, purge_holdings, record_holdings, recorded_files
from node.ledger.instances import Receipt
from node.ledger.packed_files import delete_packed, packed_files
from node.ledger.tables import instance
from node.membership import Membership, new_member
from node.receive.receipt_recording import record_receipts
from node.service import open_storage
from node.spool import Spool, StoredFile
from node.spool.tiers import Files

Recorded = dict[str, RecordedFile]


def part10(data: bytes) -> bytes:
    """A file as the receiver writes it, with this data set."""
    meta = b"\x02\x00\x16\x00AE\x06\x00SENDER"
    return b"\0" * 128 + b"DICM\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta + data


class Scene(Protocol):
    """A tier that a test can write to and harm. ``keep`` raises when the tier refuses."""

    files: Files
    spool: Spool
    """Which reads it."""

    def keep(self, series: str, contents: Mapping[str, bytes]) -> Recorded:
        """Store files by SOP Instance UID until the tier has them; return what the ledger recorded."""

    def cut_off(self, series: str, sop: str, content: bytes) -> str:
        """Begin to store a file and break off; return its path."""

    def alter(self, path: str) -> None:
        """Change a byte of a kept file behind the node's back."""

    def purge(self, recorded: Recorded) -> None:
        """Have files purged and the tier delete them."""

    def offer(self, path: str) -> None:
        """Have the ledger say that this tier has a file, and put one there."""


class FolderScene:
    """The storage folder, on a file system with or without locks."""

    def __init__(self, folder: Path, run: Callable[[Callable[[], StoredFile]], StoredFile]) -> None:
        """``run``: calls what takes a lock."""
        self.spool = Spool(folder)
        self.files: Files = self.spool.here
        self._run = run

    def keep(self, series: str, contents: Mapping[str, bytes]) -> Recorded:
        stored = [
            self._run(lambda sop=sop, of=of: self.spool.keep(STUDY, series, sop, [of]))  # type: ignore[misc]
            for sop, of in contents.items()
        ]
        return {of.path: RecordedFile(of.digest, of.size) for of in stored}

    def cut_off(self, series: str, sop: str, content: bytes) -> str:
        def begin() -> StoredFile:
            draft = self.spool.drafts.new()
            draft.write([content[:20]])
            return StoredFile(path=f"incoming/{STUDY}/{series}/{sop}.dcm", digest="", size=0, status="new")

        return self._run(begin).path

    def alter(self, path: str) -> None:
        _flip(self.spool.absolute(path), 150)

    def purge(self, recorded: Recorded) -> None:
        self.spool.purge(recorded)

    def offer(self, path: str) -> None:
        _write(self.spool.folder / path)


class MachineScene:
    """Machine ``a``, whose files machine ``b`` reads, and to which it sends second copies."""

    def __init__(self, a: FleetMachine, b: FleetMachine) -> None:
        self.a, self._b = a, b
        a.serve()
        self._membership = Membership(b.engine, replace(new_member("receiver"), machine=b.spool.machine))
        self._membership.begin()
        self._engine, self.spool = open_storage(b.config, self._membership.id)
        machines = self.spool._machines
        assert machines is not None
        self.files: Files = machines
        self._copies = SentCopies(b.fleet, self._engine, self.spool)
        self._copies.start()

    def close(self) -> None:
        self._copies.stop()
        self._membership.leave()
        self._engine.dispose()

    def keep(self, series: str, contents: Mapping[str, bytes]) -> Recorded:
        receipts = [self._copy(series, sop, content) for sop, content in contents.items()]
        with begin_immediate(self._engine) as connection:
            record_receipts(connection, self.spool, receipts)
            return recorded_files(connection, [of.path for of in receipts])

    def _copy(self, series: str, sop: str, content: bytes) -> Receipt:
        self._copies._client._avoided.clear()  # a case may have had it avoided, or restarted
        self._copies._client.look()
        draft = self.spool.drafts.new()
        copy = self._copies.begin(draft)
        try:
            draft.write([content])
            copy.write([content])
            copy.keep(STUDY, series, sop)
            there = copy.wait()
        finally:
            copy.discard()
            draft.discard()
        return receipt(
            sop, path=there.path, digest=there.digest, size=draft.size, series_instance_uid=series,
            conflict=there.path.startswith("conflicts/"), copy_machine=there.machine,
        )  # fmt: skip

    def cut_off(self, series: str, sop: str, content: bytes) -> str:
        draft = self.spool.drafts.new()
        copy = self._copies.begin(draft)
        copy._send(DATA, [content[:20]])
        assert copy._connection is not None
        copy._connection.socket.close()
        draft.discard()
        path = f"incoming/{STUDY}/{series}/{sop}.dcm"
        self._hold(path)
        return path

    def alter(self, path: str) -> None:
        _flip(self.a.spool.absolute(path), 150)

    def purge(self, recorded: Recorded) -> None:
        self.a.copies.pending.look()
        with begin_immediate(self._engine) as connection:
            connection.execute(sa.delete(instance).where(instance.c.path.in_(recorded)))
            purge_holdings(connection, {path.rpartition("/")[0] for path in recorded})
        Housekeeping(self.a.engine, self.a.spool, 1.0).step()

    def offer(self, path: str) -> None:
        self._hold(path)
        _write(self.a.spool.folder / path)

    def _hold(self, path: str) -> None:
        with begin_immediate(self._engine) as connection:
            record_holdings(connection, self.a.spool.machine, [path.rpartition("/")[0]])

    @contextmanager
    def silent(self) -> Iterator[socket.socket]:
        """The machine takes connections and never answers; yield the socket, which does not block."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            self.a.end()
            self.a.serve(f"https://127.0.0.1:{listener.getsockname()[1]}")
            yield listener
        self.a.end()
        self.a.serve()
        self.files._avoided.clear()  # type: ignore[attr-defined]


class PackScene:
    """Packs in a server of S3, behind a proxy that can fail."""

    def __init__(self, scene: PackedSeries, server: Proxy) -> None:
        self._scene, self._server = scene, server
        self.spool = scene.spool
        packs = scene.spool._others and scene.spool._others.packs
        assert packs is not None
        self.files: Files = packs

    def keep(self, series: str, contents: Mapping[str, bytes]) -> Recorded:
        paths = self._scene.receive(dict(contents), series)
        self._scene.pack()
        self._scene.release()
        with self._scene.engine.connect() as connection:
            return recorded_files(connection, paths)

    def cut_off(self, series: str, sop: str, content: bytes) -> str:
        (path,) = self._scene.receive({sop: content}, series)
        for fault in ("refuse", "cut", "alter"):
            self._server.fault = fault
            assert self._scene.pack() == 0
        self._server.fault = ""
        return path

    def alter(self, path: str) -> None:
        with self._scene.engine.connect() as connection:
            of = packed_files(connection, [path])[path]
        file = self._scene.bucket / "altered"
        file.write_bytes(b"".join(self._scene.objects.stream(of.pack, self._scene.objects.size(of.pack) or 0)))
        _flip(file, of.position + 150)
        self._scene.objects.delete(of.pack)
        assert self._scene.objects.put_new(of.pack, file)

    def purge(self, recorded: Recorded) -> None:
        with begin_immediate(self._scene.engine) as connection:
            connection.execute(sa.delete(instance).where(instance.c.path.in_(recorded)))
            delete_packed(connection, recorded)
        self._scene.deletion().look()

    def offer(self, path: str) -> None:
        _write(self._scene.bucket / path)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """The store refuses everything."""
        self._server.fault = "refuse"
        yield
        self._server.fault = ""


def _flip(file: Path, position: int) -> None:
    with file.open("r+b") as content:
        content.seek(position)
        (byte,) = content.read(1)
        content.seek(position)
        content.write(bytes([byte ^ 1]))


def _write(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("secret")
