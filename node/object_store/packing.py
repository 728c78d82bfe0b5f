"""Packing: every complete series becomes a pack in the object store, which is read back before it counts.

A process may be killed after any step. Until the ledger has the files of a verified pack, the local files are what
counts; a pack that was uploaded before that is found by its name, which is made of its content, and used.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

import sqlalchemy as sa

from node.actor import look_every
from node.config import ObjectStoreTable
from node.errors import AbsentFileError, AbsentStoreError, ConfigError, InputError, PlatformError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.holdings import RecordedFile, file_services, holders, recorded_files
from node.ledger.instances import hold_receipts
from node.ledger.leadership import Leadership
from node.ledger.packed_files import (
    PackedFile,
    UnpackedSeries,
    end_packing,
    unpacked_files,
    unpacked_series,
)
from node.ledger.packs import NewPack, claim_pack, fail_pack, record_pack, renew_claim
from node.ledger.store_outages import end_outage, record_outage
from node.membership import elected
from node.object_store.marks import leave_mark
from node.object_store.pack_digests import is_whole
from node.object_store.pack_file import portions, remote_index, write_pack
from node.object_store.store import STALE_SECONDS, Objects
from node.spool import CACHE, Spool
from node.spool.cache import Cache
from node.spool.machine import machine_id

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
_WHOLE_SECONDS = 3600.0
"""Between two looks at all series; in between those that were received in the last hours are looked at."""
_RECENT_SECONDS = 4 * 3600.0
_MOST_SERIES = 2000
"""Of one look."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 60.0, 900.0
"""Of a series, or of all when the store refuses: each attempt writes the pack to the disk. Doubled after each."""
_ROOM_BYTES = 64 << 20
"""That a pack leaves free on the disk."""
_ALL = ""


class Packing:
    """The packing of one process; of those on one machine one works at a time."""

    def __init__(
        self, table: ObjectStoreTable, engine: sa.Engine, spool: Spool, open_store: Callable[[], Objects]
    ) -> None:
        self._after_seconds = table.pack_after_minutes * 60
        self._engine = engine
        self._spool = spool
        self._open_store = open_store
        self._cache = Cache(spool.folder / CACHE)
        self._leadership = Leadership(engine, f"packing {spool.machine}")
        self._whole_at = 0.0
        self._paused: dict[str, tuple[float, float]] = {}
        """Until when a series is not packed, by the monotonic clock, and the seconds of that pause."""

    def run(self, stop: threading.Event) -> None:
        """Look every minute until ``stop`` is set."""
        look_every(LOOK_SECONDS, stop, "packing", lambda: self.look(stop))
        self.release()

    def release(self) -> None:
        """Let another process of this machine pack."""
        self._leadership.release()

    def look(self, stop: threading.Event) -> int:
        """Pack every series whose turn it is; return how many were packed."""
        if not self._leadership.is_ours():
            return 0
        objects = self._usable_store()
        if objects is None or self._is_paused(_ALL):
            return 0
        at = clock_of(self._engine)
        since = at - self._after_seconds - _RECENT_SECONDS
        if at - self._whole_at > _WHOLE_SECONDS:
            self._whole_at, since = at, 0.0
        with self._engine.connect() as connection:
            waiting = unpacked_series(connection, at - self._after_seconds, since, _MOST_SERIES)
        packed = 0
        for of in waiting:
            if stop.is_set() or self._is_paused(_ALL):
                break
            if not self._is_paused(of.series_instance_uid) and self._is_ours(of):
                packed += self._try(objects, of)
        if len(waiting) == _MOST_SERIES:
            self._whole_at = 0.0
        return packed

    def _usable_store(self) -> Objects | None:
        """Open the store, and record since when it cannot be used."""
        machine = machine_id(self._spool.folder)
        try:
            objects = self._open_store()
            leave_mark(self._engine, objects)
        except (AbsentStoreError, ConfigError) as error:
            logger.warning("nothing is packed: %s", error)
            with begin_immediate(self._engine) as connection:
                record_outage(connection, machine, str(error))
            return None
        with begin_immediate(self._engine) as connection:
            if end_outage(connection, machine):
                logger.info("%s answers again", objects.where)
                self._paused.clear()
        return objects

    def _try(self, objects: Objects, of: UnpackedSeries) -> bool:
        """Pack a series unless something keeps it from that; return whether all its images are packed now."""
        uid = of.series_instance_uid
        try:
            is_packed = self.pack(objects, of)
        except AbsentStoreError as error:
            logger.warning("series %s is not packed yet: %s", uid, error)
            self._pause(_ALL)
        except AbsentFileError as error:  # a machine
            logger.warning("series %s is not packed yet: %s", uid, error)
        except (PlatformError, OSError) as error:
            logger.error("series %s cannot be packed: %s", uid, error)  # noqa: TRY400 - the message says all
            self._pause(uid)
        else:
            self._paused.pop(uid, None)
            self._paused.pop(_ALL, None)
            return is_packed
        return False

    def _pause(self, uid: str) -> None:
        _, seconds = self._paused.get(uid, (0.0, _FIRST_PAUSE_SECONDS / 2))
        seconds = min(2 * seconds, _LONGEST_PAUSE_SECONDS)
        self._paused[uid] = monotonic() + seconds, seconds

    def _is_paused(self, uid: str) -> bool:
        return self._paused.get(uid, (0.0, 0.0))[0] > monotonic()

    def pack(self, objects: Objects, of: UnpackedSeries) -> bool:
        """Pack the images of a series that are in no pack; return whether all are now.

        Raises ``AbsentStoreError`` when the store does not answer or refuses, ``AbsentFileError`` when a machine with
        files does not, ``PlatformError`` when a file is not as it was recorded, the disk is full, or the store does not
        keep what it is given.
        """
        series = of.study_instance_uid, of.series_instance_uid
        with self._engine.connect() as connection:
            files = unpacked_files(connection, *series)
        for part in portions(files):
            self._write(objects, of, part)
        with begin_immediate(self._engine) as connection:
            left = portions(unpacked_files(connection, *series))
            if not left:
                end_packing(connection, of)
        return not left

    def _write(self, objects: Objects, of: UnpackedSeries, part: Mapping[str, RecordedFile]) -> None:
        """Write one pack, read it back, and record its files."""
        readable = zip(part.items(), self._spool.all_readable(part), strict=True)
        places = {path: (place, recorded.digest) for (path, recorded), place in readable}
        needed, space = sum(recorded.size for recorded in part.values()) + _ROOM_BYTES, self._spool.space()
        if space.free < needed:
            raise PlatformError(
                f"disk full: {space.free >> 20} MiB free, a pack needs {needed >> 20}; free space on the disk of "
                f"[storage] folder {self._spool.folder}"
            )
        with self._cache.draft() as draft:
            name, files = write_pack(draft, places)
            claim, size = f"{self._spool.drafts.writer}/{uuid.uuid4().hex}", draft.stat().st_size
            new = NewPack(
                name=name,
                claim=claim,
                study_instance_uid=of.study_instance_uid,
                series_instance_uid=of.series_instance_uid,
                size=size,
            )
            with begin_immediate(self._engine) as connection:
                if not claim_pack(connection, new, STALE_SECONDS):
                    return  # another process is about it
            try:
                self._upload(objects, draft, new, files)
            except PlatformError as error:
                with begin_immediate(self._engine) as connection:
                    fail_pack(connection, name, claim, str(error))
                raise
            with begin_immediate(self._engine) as connection:
                hold_receipts(connection)  # nobody purges a file between the question and its row
                recorded = recorded_files(connection, files)
                wanted = {path: file for path, file in files.items() if _is_recorded(recorded.get(path), file)}
                is_kept = record_pack(connection, name, claim, wanted)
        if is_kept:
            logger.info("series %s: %d images in %s, %d bytes", of.series_instance_uid, len(wanted), name, size)

    def _upload(self, objects: Objects, draft: Path, new: NewPack, files: Mapping[str, PackedFile]) -> None:
        name, size = new.name, new.size
        objects.put_new(name, draft)
        if not is_whole(objects, name, size):
            with begin_immediate(self._engine) as connection:
                is_ours = renew_claim(connection, name, new.claim)
            if is_ours:  # nobody relies on it, and every image of it is here
                objects.delete(name)
            raise PlatformError(f"{objects.where}: {name} is not what was written; nothing local is deleted")
        try:
            index = remote_index(objects, name, size)
        except InputError as error:
            raise PlatformError(f"{objects.where}: {name} cannot be read in ranges: {error}") from error
        if index != {path: of.digest for path, of in files.items()}:
            raise PlatformError(f"{objects.where}: the index of {name} is not what was written")

    def _is_ours(self, of: UnpackedSeries) -> bool:
        """Whether this machine packs a series: the one that its name elects among the living ones that have it."""
        if not self._spool.machine:
            return True
        folder = f"incoming/{of.study_instance_uid}/{of.series_instance_uid}"
        with self._engine.connect() as connection:
            having = holders(connection, [folder])[folder] & file_services(connection).keys()
        return elected(having, folder) == self._spool.machine


def _is_recorded(recorded: RecordedFile | None, packed: PackedFile) -> bool:
    return recorded is not None and recorded.digest == packed.digest
