"""Deletion of local copies of packed images, each of which is compared with the pack's digest before it goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.config import ObjectStoreTable
from node.errors import AbsentFileError
from node.ledger.engine import begin_immediate
from node.ledger.holdings import end_purge
from node.ledger.instances import hold_receipts
from node.ledger.packed_files import pack_again, packed_files
from node.ledger.packs import lose_packs, pack_sizes
from node.ledger.study_use import is_study_in_use
from node.object_store.pack_digests import is_whole
from node.object_store.store import Objects
from node.spool import CACHE, Spool
from node.spool.cache import Cache

logger = logging.getLogger(__name__)

LOOK_SECONDS = 900.0
_DAY_SECONDS = 86400.0


class LocalCopies:
    """The local copies on one machine."""

    def __init__(
        self,
        table: ObjectStoreTable,
        engine: sa.Engine,
        spool: Spool,
        open_store: Callable[[], Objects],
        cache_gib: float | None,
    ) -> None:
        """``cache_gib``: to how much the cache is tidied, or ``None`` where another loop does it."""
        self._open_store = open_store
        self._objects: Objects | None = None
        self._keep_seconds = table.keep_local_days * _DAY_SECONDS
        self._free_gib = table.local_free_gib
        self._engine = engine
        self._spool = spool
        self._cache_gib = cache_gib

    def run(self, stop: threading.Event) -> None:
        """Look every few minutes until ``stop`` is set."""
        look_every(LOOK_SECONDS, stop, "local copies", lambda: self.look(time.time(), stop))

    def look(self, at: float, stop: threading.Event) -> int:
        """Delete what is due at a time of this machine's clock; return how many files."""
        deleted = 0
        for changed_at, folder in sorted(self._folders()):
            if stop.is_set():
                break
            if at - changed_at < self._keep_seconds and not self._spool.space().is_below(self._free_gib):
                break  # those that follow are younger
            with surviving(f"local copies in {folder}"):
                try:
                    deleted += self._release(folder)
                except AbsentFileError as error:
                    logger.warning("local copies stay: %s", error)
                    break
        if deleted:
            logger.info("%d local copies of packed images deleted", deleted)
        if self._cache_gib is not None:
            Cache(self._spool.folder / CACHE).tidy(self._cache_gib * 2**30)
        return deleted

    def _folders(self) -> Iterator[tuple[float, str]]:
        """When each folder of a series last changed, and its path."""
        for root in ("incoming", "conflicts"):
            for folder in (self._spool.folder / root).glob("*/*"):
                with suppress(FileNotFoundError):
                    yield folder.stat().st_mtime, str(folder.relative_to(self._spool.folder))

    def _release(self, folder: str) -> int:
        """Delete the files of a folder that a verified pack holds, unless their study is in use."""
        with self._engine.connect() as connection:
            packed = packed_files(connection, self._spool.files(folder))
        equal = {path: of for path, of in packed.items() if self._spool.here.has(path, of)}
        if not equal:
            self._end(folder)
            return 0
        _, study, series_uid = folder.split("/")
        lost = self._lost({of.pack for of in equal.values()})
        if again := [path for path, of in equal.items() if of.pack in lost]:
            error = f"{', '.join(lost)} is no longer in the store as it was written"
            logger.error("%s; its %d local images are packed again", error, len(again))
            with begin_immediate(self._engine) as connection:
                pack_again(connection, study, series_uid, again)
                lose_packs(connection, lost, error)
            equal = {path: of for path, of in equal.items() if path not in again}
        with begin_immediate(self._engine) as connection:
            hold_receipts(connection)
            if is_study_in_use(connection, study, series_uid):
                return 0
            still = packed_files(connection, equal)
            due = [path for path, of in equal.items() if still.get(path) == of]
            unlinked = [path for path in due if not self._spool.drafts.has_writer(self._place(path))]
            self._spool.purge(unlinked, keep_study=True)
            self._end_holding(connection, folder)
        return len(unlinked)

    def _end(self, folder: str) -> None:
        """End what a process that was killed has left: a folder whose files have all gone."""
        with suppress(OSError):  # it has other files
            self._place(folder).rmdir()
            with begin_immediate(self._engine) as connection:
                hold_receipts(connection)
                self._end_holding(connection, folder)

    def _end_holding(self, connection: sa.Connection, folder: str) -> None:
        if self._spool.machine and not self._place(folder).exists():
            end_purge(connection, self._spool.machine, folder, is_empty=True)

    def _lost(self, packs: set[str]) -> list[str]:
        """Return those packs that the store does not have as they were verified: these files may be the last copies.

        Each is read as a whole: a pack of the right size may have other bytes.
        """
        if self._objects is None:
            self._objects = self._open_store()
        with self._engine.connect() as connection:
            sizes = pack_sizes(connection, packs)
        lost = [of for of in sorted(packs) if of not in sizes or not is_whole(self._objects, of, sizes[of])]
        if lost:
            self._objects.answer_for_packs()
        return lost

    def _place(self, path: str) -> Path:
        return self._spool.absolute(path)
