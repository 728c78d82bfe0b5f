"""Deletion on each machine of what the ledger purged there, and of copies that nobody uses."""

from __future__ import annotations

import logging
import shutil
import threading

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.errors import NotFoundError
from node.ledger.engine import begin_immediate, timeline
from node.ledger.file_digests import known_paths
from node.ledger.holdings import end_purge, purged_holdings, record_holdings
from node.ledger.instances import hold_receipts
from node.ledger.jobs import get_job
from node.ledger.states import JobStage
from node.spool import CACHE, Spool
from node.spool.cache import Cache

logger = logging.getLogger(__name__)

POLL_SECONDS = 60.0


class Housekeeping:
    """The work of one process of a machine with a storage folder of its own."""

    def __init__(self, engine: sa.Engine, spool: Spool, cache_gib: float) -> None:
        self._engine = engine
        self._spool = spool
        self._cache = Cache(spool.folder / CACHE)
        self._cache_bytes = cache_gib * 2**30
        self._recorded_in: str | None = None
        """The history of the ledger that has what this machine holds."""

    def run(self, stop: threading.Event) -> None:
        """Look every minute until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "purge of files", self.step)

    def record(self) -> None:
        """Record all that this machine holds, once for each history of the ledger.

        The machine may have joined the fleet with files, and a replica that was promoted may lack the last rows.
        """
        history = timeline(self._engine)
        if history == self._recorded_in:
            return
        folders = [
            str(folder.relative_to(self._spool.folder))
            for pattern in ("incoming/*/*", "conflicts/*/*", "results/*")
            for folder in self._spool.folder.glob(pattern)
        ]
        with begin_immediate(self._engine) as connection:
            record_holdings(connection, self._spool.machine, folders)
        self._recorded_in = history

    def step(self) -> int:
        """Record what is held and delete what is due; return the number of folders."""
        self.record()
        with self._engine.connect() as connection:
            folders = purged_holdings(connection, self._spool.machine)
        for folder in sorted(folders):
            with surviving(f"purge of {folder}"):
                self._purge(folder)
        self._cache.tidy(self._cache_bytes)
        return len(folders)

    def _purge(self, folder: str) -> None:
        """Delete files in one transaction, as retention does: no row of a file in the folder is written meanwhile."""
        root, _, rest = folder.partition("/")
        with begin_immediate(self._engine) as connection:
            if root in ("results", "work"):
                if _is_needed(connection, root, rest):
                    return
                shutil.rmtree(self._spool.absolute(folder), ignore_errors=True)
            else:
                hold_receipts(connection)
                known = known_paths(connection, rest.partition("/")[0])
                paths = [path for path in self._spool.files(folder) if path not in known]
                self._spool.purge(p for p in paths if not self._spool.drafts.has_writer(self._spool.absolute(p)))
            is_empty = not self._spool.absolute(folder).exists()
            end_purge(connection, self._spool.machine, folder, is_empty=is_empty)
        logger.info("%s purged here, as on the other machines", folder)


def _is_needed(connection: sa.Connection, root: str, job_id: str) -> bool:
    """Whether the job of a folder still exists, or is still to be encoded from it."""
    try:
        stage = get_job(connection, job_id).stage
    except NotFoundError:
        return False
    return root == "results" or stage in (JobStage.INFER, JobStage.ENCODE)
