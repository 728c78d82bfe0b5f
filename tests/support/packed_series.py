"""A spool with a received series, an object store in a folder, and what packs the one into the other."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import obstore.store
import sqlalchemy as sa
from receipts import receipt

from node.config import ObjectStoreTable, Storage
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.instances import record_instances
from node.ledger.packed_files import UnpackedSeries, recorded_elsewhere
from node.ledger.tables import series
from node.object_store.deletion import PackDeletion
from node.object_store.local_copies import LocalCopies
from node.object_store.marks import leave_mark
from node.object_store.packed_reader import PackedReader
from node.object_store.packing import Packing
from node.object_store.store import Objects
from node.spool import Spool
from node.spool.tiers import OtherTiers

STUDY, SERIES = "1.1", "1.1.1"
STOP = threading.Event()


@dataclass
class PackedSeries:
    """One machine with its ledger, spool and store."""

    engine: sa.Engine
    spool: Spool
    objects: Objects
    bucket: Path
    table: ObjectStoreTable

    def receive(self, contents: dict[str, bytes], series_uid: str = SERIES, *, at: float = 10.0) -> list[str]:
        """Store images by SOP Instance UID, record them, and complete their series; return the paths."""
        paths = []
        for sop, content in contents.items():
            with begin_immediate(self.engine) as connection:
                kept = self.spool.keep(STUDY, series_uid, sop, [content])
                of = receipt(
                    sop, at=at, path=kept.path, digest=kept.digest, size=kept.size, series_instance_uid=series_uid,
                    conflict=kept.status == "conflict",
                )  # fmt: skip
                for aside in record_instances(connection, [of]):
                    moved = self.spool.set_aside(aside.path, aside.digest)
                    record_instances(connection, [receipt(sop, path=moved, digest=kept.digest, conflict=True)])
            paths.append(kept.path)
        self.complete(series_uid)
        return paths

    def complete(self, series_uid: str = SERIES) -> None:
        with begin_immediate(self.engine) as connection:
            new = {"state": "COMPLETE", "generation": series.c.generation + 1, "completed_at": 20.0}
            connection.execute(sa.update(series).where(series.c.series_instance_uid == series_uid).values(**new))

    def packing(self) -> Packing:
        return Packing(self.table, self.engine, self.spool, lambda: self.objects)

    def pack(self) -> int:
        packing = self.packing()
        try:
            return packing.look(STOP)
        finally:
            packing.release()

    def release(self, days: float = 30.0) -> int:
        """Delete local copies ``days`` after the images came."""
        return LocalCopies(self.table, self.engine, self.spool, lambda: self.objects, 1.0).look(
            clock_of(self.engine) + days * 86400, STOP
        )

    def deletion(self) -> PackDeletion:
        return PackDeletion(self.engine, self.spool, lambda: self.objects)

    def packs(self) -> list[Path]:
        return sorted(self.bucket.glob("packs/*.zip"))

    def unpacked(self) -> UnpackedSeries:
        return UnpackedSeries(STUDY, SERIES, 1, 10.0)


def open_scene(engine: sa.Engine, folder: Path, objects: Objects | None = None, **keys: float) -> PackedSeries:
    """A machine whose store is a folder, or ``objects``."""
    bucket = folder / "bucket"
    bucket.mkdir(exist_ok=True)
    if objects is None:
        store = obstore.store.LocalStore(bucket)
        objects = Objects("the store", lambda _seconds: store, lambda _seconds: store)
    storage = Storage(folder=folder / "spool", min_free_gib=0.0)
    packs = PackedReader(storage, engine, lambda: objects)
    spool = Spool(storage.folder, others=OtherTiers(recorded=partial(recorded_elsewhere, engine, ""), packs=packs))
    leave_mark(engine, objects)
    table = ObjectStoreTable(url="s3://bucket/site", local_free_gib=0.0, **keys)
    return PackedSeries(engine, spool, objects, bucket, table)
