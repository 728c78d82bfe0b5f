"""Makes the second copies that are missing: of results, and of images that were accepted or left with one copy."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from sqlalchemy import Engine

from node.actor import look_every, surviving
from node.errors import PlatformError
from node.ledger.engine import begin_immediate
from node.ledger.holdings import RecordedFile, file_services, folder_of, holders, record_holdings, recorded_files
from node.ledger.missing_copies import end_missing_copies, missing_copies
from node.ledger.packed_files import packed_files
from node.membership import elected
from node.spool import Spool

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
_AT_ONCE = 64
"""Files that are fetched and recorded together: each costs some transactions and a connection otherwise."""


class CopyRepair:
    """The work of the machine that runs it: it fetches what it is to have, and confirms what two machines have."""

    def __init__(self, engine: Engine, spool: Spool) -> None:
        self._engine = engine
        self._spool = spool

    def run(self, stop: threading.Event) -> None:
        """Look every few seconds until ``stop`` is set."""
        look_every(LOOK_SECONDS, stop, "repair of copies", lambda: self.look(stop))

    def look(self, stop: threading.Event) -> int:
        """Go through all missing copies; return how many are not missing any more."""
        repaired, last = 0, ""
        while not stop.is_set():
            with self._engine.connect() as connection:
                paths = missing_copies(connection, last)
            if not paths:
                break
            last = paths[-1]
            with surviving("repair of copies"):
                repaired += self._repair(paths)
        if repaired:
            logger.info("%d files have their second copy", repaired)
        return repaired

    def _repair(self, paths: list[str]) -> int:
        with begin_immediate(self._engine) as connection:
            recorded = recorded_files(connection, paths)
            end_missing_copies(connection, set(paths) - recorded.keys())  # purged, or known by another path
            packed = packed_files(connection, recorded).keys()
            end_missing_copies(connection, packed)  # the store keeps them
            recorded = {path: of for path, of in recorded.items() if path not in packed}
            if not file_services(connection).keys() - {self._spool.machine}:
                return 0  # there is nobody to share with
            having = holders(connection, set(map(folder_of, recorded)))
            living = file_services(connection).keys()
        responsible = {folder for folder, machines in having.items() if self._is_responsible(folder, living - machines)}
        here = self._here(recorded, {folder for folder, machines in having.items() if self._spool.machine in machines})
        repaired, faults = self._confirmed(here), list[PlatformError]()
        wanted = [path for path in sorted(recorded.keys() - here.keys()) if folder_of(path) in responsible]
        for first in range(0, len(wanted), _AT_ONCE):
            part = {path: recorded[path] for path in wanted[first : first + _AT_ONCE]}
            try:
                repaired |= self._fetched(part)
            except PlatformError:  # one by one, so that a file that cannot be fetched keeps no other from its copy
                for path, of in part.items():
                    try:
                        repaired |= self._fetched({path: of})
                    except PlatformError as error:
                        faults.append(error)
        if faults:
            logger.warning("%d second copies are not made yet: %s", len(faults), faults[0])
        with begin_immediate(self._engine) as connection:
            end_missing_copies(connection, repaired)
        return len(repaired)

    def _is_responsible(self, folder: str, lacking: AbstractSet[str]) -> bool:
        """Whether this machine is the one that gets the second copies of a folder, of those that have none of it.

        Where all living machines have files in it, each fetches what it lacks.
        """
        return not lacking or elected(lacking, folder) == self._spool.machine

    def _here(self, recorded: Mapping[str, RecordedFile], known: AbstractSet[str]) -> dict[str, RecordedFile]:
        """Return what this machine has; ``known``: the folders in which the ledger knows that it has files.

        An attempt that was cut off before its transaction may have left a result in another folder. It counts once the
        ledger knows of it: nobody would ask for it here otherwise.
        """
        here = {path: of for path, of in recorded.items() if self._spool.absolute(path).exists()}
        here = {path: of for path, of in here.items() if folder_of(path) in known or self._spool.here.has(path, of)}
        if unknown := set(map(folder_of, here)) - known:
            with begin_immediate(self._engine) as connection:
                record_holdings(connection, self._spool.machine, unknown)
        return here

    def _confirmed(self, here: Mapping[str, RecordedFile]) -> set[str]:
        """Return those files that this machine has, and another one too."""
        having = {
            path: {machine for machine, digest in digests.items() if digest == here[path].digest}
            for path, digests in self._spool.tiers.digests(here).items()
        }
        return {path for path, machines in having.items() if machines > {self._spool.machine}}

    def _fetched(self, recorded: Mapping[str, RecordedFile]) -> set[str]:
        """Store files of other machines here, too; return the paths of those that both have now."""
        copies = dict(zip(recorded, self._spool.all_readable(recorded), strict=True))
        there = {path: copy for path, copy in copies.items() if copy.exists()}
        if not there:
            return set()
        with begin_immediate(self._engine) as connection:  # a row may say too much, never too little
            record_holdings(connection, self._spool.machine, {folder_of(path) for path in there})
        stored = set()
        for path, copy in there.items():
            self._spool.place(copy, path)
            if self._spool.here.has(path, recorded[path]):
                stored.add(path)
            else:
                logger.error("%s: this machine has other content under this name; `ainode verify` names it", path)
        with begin_immediate(self._engine) as connection:
            both = stored & recorded_files(connection, sorted(stored)).keys()
        for path in stored - both:
            self._spool.absolute(path).unlink(missing_ok=True)  # purged meanwhile
        return both
