"""Conflicts: classifies instances received again with different bytes as new identity, encoding or content.

A series that was received again completely with another identity (patient merge, corrected order) takes that identity.
A series that was held because its images had several identities takes one as soon as all of its images have it.
``node.spool.spool`` keeps both files, the first one counts (``node.ledger.instances``), and the sender gets Success
(``node.receive.storage``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from sqlalchemy import Engine

from node.actor import look_every
from node.confined import Bounds, shared_process
from node.errors import AbsentFileError, NodeError
from node.ledger import ConflictKind
from node.ledger.clock import ledger_clock
from node.ledger.conflicts import begun_meanwhile, hold, pairs_to_compare, record_differences
from node.ledger.corrections import adopt, corrected_series
from node.ledger.engine import begin_immediate
from node.ledger.held_series import sent_again
from node.log import about
from node.routing.instance_comparison import compare_files
from node.routing.study_decisions import Responsible, for_everything
from node.spool import Spool
from node.studies.attributes import contradictory

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
_BOUNDS = Bounds(cpu_seconds=60, wall_seconds=180.0)


class Conflicts:
    """Work of the router, because a merged patient comes with thousands of images and no sender should wait for it."""

    def __init__(self, engine: Engine, spool: Spool, is_responsible: Responsible = for_everything) -> None:
        self._engine = engine
        self._spool = spool
        self._is_responsible = is_responsible
        self._reader = shared_process("conflict reader", spool.data_folders, _BOUNDS)
        self._looked_at: set[frozenset[str]] = set()

    def run(self, stop: threading.Event) -> None:
        """Look every two seconds until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "comparison of conflicts", self.step)

    def step(self) -> int:
        """Compare what is due; return how many pairs."""
        with self._engine.connect() as connection:
            pairs = [pair for pair in pairs_to_compare(connection) if self._is_responsible(pair.study_instance_uid)]
        differences = [
            (pair, *difference) for pair in pairs if (difference := self._difference(pair.first, pair.second))
        ]
        if differences:
            with begin_immediate(self._engine) as connection:
                record_differences(connection, differences)
        with self._engine.connect() as connection:
            begun = [row for row in begun_meanwhile(connection) if self._is_responsible(row[0])]
            corrected = [key for key in corrected_series(connection) if self._is_responsible(key[0])]
            again = {key: files for key, files in sent_again(connection).items() if self._is_responsible(key[0])}
        self._looked_at &= {frozenset(files.values()) for files in again.values()}
        corrected += [key for key, files in again.items() if key not in corrected and self._is_of_one_patient(files)]
        for study, series, changed in begun:
            with begin_immediate(self._engine) as connection:
                hold(connection, study, series, changed)
        for study, series in corrected:
            with begin_immediate(self._engine) as connection:
                adopt(connection, study, series, ledger_clock(connection))
            with about(study, series=series):
                logger.warning("series %s was received again with another identity, which is used now", series)
        return len(differences)

    def _is_of_one_patient(self, files: Mapping[str, str]) -> bool:
        """Whether a series that was held is of one identity by now; ``files``: the latest of each image, by its UID.

        Asked once for each set of files.
        """
        paths = frozenset(files.values())
        if paths in self._looked_at:
            return False
        self._looked_at.add(paths)
        try:
            files_of_spool = self._spool.all_readable(paths)
            return not self._reader.call("a series that is held", contradictory, files_of_spool)
        except NodeError as error:
            logger.warning("a series that is held: %s", error)
            return False

    def _difference(self, first: str, second: str) -> tuple[ConflictKind, str] | None:
        """Kind and keywords of what differs; ``None``: a file is on a machine that cannot be reached now."""
        try:
            pair = self._spool.all_readable((first, second))
        except AbsentFileError as error:
            logger.warning("conflict %s: %s", second, error)
            return None
        try:
            difference = self._reader.call(f"conflict {second}", compare_files, *pair)
        except NodeError as error:
            logger.warning("conflict %s: %s", second, error)
            return ConflictKind.CONTENT, "what cannot be read"
        return difference.kind, ", ".join(difference.keywords)
