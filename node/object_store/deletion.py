"""Deletion of packs whose files are all purged, and of uploads that were cut off.

Only objects that the ledger knows are deleted. One without a row may be the only copy of what a lost ledger knew:
`ainode packs` names it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.errors import AbsentFileError, InputError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.holdings import recorded_files
from node.ledger.leadership import Leadership
from node.ledger.packed_files import packed_files
from node.ledger.packs import PackRow, begin_deletion, delete_pack_row, end_deletion, stale_packs, unneeded_packs
from node.ledger.states import PackState
from node.object_store.marks import other_marks
from node.object_store.pack_file import remote_index
from node.object_store.store import STALE_SECONDS, Objects
from node.spool import Spool

logger = logging.getLogger(__name__)

LOOK_SECONDS = 900.0
ORPHAN_SECONDS = 86400.0
"""An upload that was begun longer ago and never verified is deleted, unless it has the only copy of an image."""


class PackDeletion:
    """The deletion of one process; of those of one ledger one works at a time."""

    def __init__(self, engine: sa.Engine, spool: Spool, open_store: Callable[[], Objects]) -> None:
        self._engine = engine
        self._spool = spool
        self._open_store = open_store
        self._leadership = Leadership(engine, "pack deletion")

    def run(self, stop: threading.Event) -> None:
        """Look every few minutes until ``stop`` is set."""
        look_every(LOOK_SECONDS, stop, "deletion of packs", self.look)
        self.release()

    def release(self) -> None:
        """Let another process delete."""
        self._leadership.release()

    def look(self) -> int:
        """Delete what is due; return how many packs."""
        if not self._leadership.is_ours():
            return 0
        before = clock_of(self._engine) - ORPHAN_SECONDS
        with self._engine.connect() as connection:
            unneeded, stale = unneeded_packs(connection), stale_packs(connection, before)
        if not unneeded and not stale:
            return 0
        objects, deleted = self._open_store(), 0
        try:
            others = other_marks(self._engine, objects)
        except AbsentFileError as error:
            logger.warning("no pack is deleted yet: %s", error)
            return 0
        if others:
            logger.error(
                "%s is also of another ledger (%s), which may need the same packs; none is deleted: give each its own "
                "prefix. If that ledger was lost, run ainode packs --recover",
                objects.where,
                ", ".join(others),
            )
            return 0
        for row in unneeded + stale:
            with surviving(f"deletion of {row.name}"):
                try:
                    if row in unneeded or not self._is_only_copy(objects, row):
                        deleted += self._delete(objects, row)
                except AbsentFileError as error:
                    logger.warning("%s is not deleted yet: %s", row.name, error)
                    break
        return deleted

    def _delete(self, objects: Objects, row: PackRow) -> bool:
        stored = None if row.state == PackState.WRITING else objects.find(row.name)  # else its images were looked at
        if stored is not None and stored.modified_at > row.at + STALE_SECONDS:
            logger.error("%s was written after all that the ledger knows of it, and stays; see ainode packs", row.name)
            with begin_immediate(self._engine) as connection:
                delete_pack_row(connection, row.name)
            return False
        with begin_immediate(self._engine) as connection:
            if not begin_deletion(connection, row):
                return False
        objects.delete(row.name)
        with begin_immediate(self._engine) as connection:
            end_deletion(connection, row.name)
        logger.info("%s deleted from the store", row.name)
        return True

    def _is_only_copy(self, objects: Objects, row: PackRow) -> bool:
        """Whether a pack that the ledger does not count on has an image that is nowhere else.

        So it may be after an older copy of the ledger was restored.
        """
        size = objects.size(row.name)
        if size is None:
            return False
        try:
            index = remote_index(objects, row.name, size)
        except InputError:
            return False
        with self._engine.connect() as connection:
            recorded, packed = recorded_files(connection, index), packed_files(connection, index)
        for path, digest in index.items():
            known = recorded.get(path)
            if known is None or known.digest != digest or path in packed:
                continue
            if self._spool.stored_size(path) is None:
                logger.error("%s has the only copy of %s and stays; ainode packs --recover takes it", row.name, path)
                return True
        return False
