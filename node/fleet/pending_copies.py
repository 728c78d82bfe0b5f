"""Copies whose images the ledger does not know yet: each has its temporary link until it does."""

from __future__ import annotations

import logging
import threading
import time
from typing import NamedTuple

from sqlalchemy import Engine

from node.actor import look_every
from node.ledger.holdings import recorded_files
from node.ledger.members import beats
from node.membership import Membership
from node.receive.recovery import record_files, recover
from node.spool import Draft, Spool, StoredFile
from node.spool.drafts import Drafts

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
OVERDUE_SECONDS = 60.0
"""A copy that the ledger does not know after this time is recorded here: its receiver could not use it, and lives."""


class _Pending(NamedTuple):
    writer: str
    draft: Draft
    stored: StoredFile
    at: float
    """When it was stored, by the monotonic clock."""


class PendingCopies:
    """The copies that this process has stored; any thread may call."""

    def __init__(self, engine: Engine, spool: Spool, membership: Membership) -> None:
        self._engine = engine
        self._spool = spool
        self._membership = membership
        self._lock = threading.Lock()
        self._drafts: dict[str, Drafts] = {}
        """By receiver. Its folder is locked as long as this process writes to it."""
        self._pending: list[_Pending] = []

    def drafts(self, writer: str) -> Drafts:
        """Return the temporary files of a receiver of another machine."""
        with self._lock:
            drafts = self._drafts.get(writer)
            if drafts is None:
                drafts = self._drafts[writer] = self._spool.drafts.of(writer)
            return drafts

    def add(self, writer: str, draft: Draft, stored: StoredFile) -> None:
        """Remember a copy until the ledger has its row."""
        with self._lock:
            self._pending.append(_Pending(writer, draft, stored, time.monotonic()))

    def take_over(self) -> None:
        """Record what an earlier process of this machine left for receivers of other machines, dead or alive."""
        with self._engine.connect() as connection:
            here = {beat.member.id for beat in beats(connection) if beat.member.machine == self._spool.machine}

        def others() -> set[str]:
            return here | {self._spool.drafts.writer}

        self._spool.drafts.sweep(lambda names: record_files(self._engine, self._spool, names), others)

    def run(self, stop: threading.Event) -> None:
        """Look every few seconds until ``stop`` is set."""
        look_every(LOOK_SECONDS, stop, "second copies", self.look)

    def look(self) -> None:
        """Remove links of copies that the ledger knows, and take over from receivers that have died."""
        alive = self._membership.alive()
        with self._lock:
            pending, self._pending = self._pending, []
        try:
            pending = self._unrecorded(pending)
        finally:
            with self._lock:
                self._pending += [copy for copy in pending if copy.writer in alive]
                dead = self._drafts.keys() - alive
                for writer in dead:
                    del self._drafts[writer]  # unlocks its folder, which is a dead writer's from now on
        if dead:
            recover(self._engine, self._spool, self._membership.alive)

    def _unrecorded(self, copies: list[_Pending]) -> list[_Pending]:
        """Discard the links of recorded copies; record overdue ones, and return the others."""
        if not copies:
            return []
        with self._engine.connect() as connection:
            recorded = recorded_files(connection, [copy.stored.path for copy in copies])
        left, overdue = [], []
        for copy in copies:
            row = recorded.get(copy.stored.path)
            if row is not None and row.digest == copy.stored.digest:
                copy.draft.discard()
            elif time.monotonic() - copy.at > OVERDUE_SECONDS:
                overdue.append(copy)
            else:
                left.append(copy)
        if overdue:
            logger.warning("%d second copies have no row yet; they are recorded here", len(overdue))
            rejected = record_files(self._engine, self._spool, [copy.draft.path for copy in overdue])
            for copy in overdue:
                if copy.draft.path in rejected:
                    left.append(copy)
                else:
                    copy.draft.discard()
        return left
