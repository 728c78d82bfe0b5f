"""Recovery of what dead receivers left: open associations, temporary files, files without a row.

Every receiver looks every few seconds, so nothing has to start for it. Associations of any machine are closed in the
ledger; files are taken over by the receivers that see them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydicom.filereader import read_file_meta_info
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from node.errors import InputError
from node.ledger.associations import close_associations_of, open_receivers
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate, timeline
from node.ledger.file_digests import known_paths
from node.ledger.holdings import folder_of, purged_holdings
from node.ledger.instances import Receipt
from node.ledger.members import lost_members, remove_lost
from node.listening import Listening
from node.membership import Membership
from node.receive.dataset_identity import read_identity
from node.receive.receipt_recording import record_receipts
from node.spool import Spool, dataset_offset, digest_of, sync_folder
from node.studies.pydicom_errors import NOT_DICOM

LOGGER = logging.getLogger(__name__)

_RETRY_SECONDS = 300.0
"""Between two attempts to record files whose rows the ledger rejected."""


class Recovery:
    """The search for what dead receivers and a failover of the ledger left, of one receiver process."""

    def __init__(
        self, engine: Engine, spool: Spool, membership: Membership, listening: Listening, stop: threading.Event
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._membership = membership
        self._listening = listening
        self._stop = stop
        self._left: frozenset[str] = frozenset()
        """Folders with files whose rows the ledger rejected."""
        self._retried = time.monotonic()
        """Monotonic clock."""

    def look(self) -> None:
        """Take over from dead receivers, and search the spool once for each history of the ledger.

        One of the processes that share the socket searches: at its start, and when a replica was promoted that may lack
        rows of files which were acknowledged.
        """
        with self._listening.first_process(timeline(self._engine) or "start") as first:
            if first:
                record_unrecorded(self._engine, self._spool, self._stop)
        if time.monotonic() - self._retried > _RETRY_SECONDS:
            self._retried, self._left = time.monotonic(), frozenset()
        self._left |= recover(self._engine, self._spool, lambda: self._membership.alive() | self._left).left
        self._release_lost()

    def _release_lost(self) -> None:
        """Remove the rows of receivers of this machine whose files have all been taken over."""
        with self._engine.connect() as connection:
            lost = [
                beat.member.id for beat in lost_members(connection) if beat.member.machine == self._membership.machine
            ]
        taken_over = set(lost) - self._spool.drafts.writers() if lost else set()
        if taken_over:
            with begin_immediate(self._engine) as connection:
                remove_lost(connection, taken_over)


class RecoveryResult(NamedTuple):
    """What one search for the files of dead receivers came to."""

    files: int
    """That got their rows."""
    left: frozenset[str]
    """Folders with files whose rows the ledger rejects."""


def recover(engine: Engine, spool: Spool, spared: Callable[[], Collection[str]]) -> RecoveryResult:
    """Record the files of dead receivers that have no row, then close their associations.

    Fast for a spool of any size: a file keeps a link among its writer's temporary files until its row is durable.
    Safe while other receivers run. ``spared``: the living members, and folders that are left alone.
    """
    count = 0
    left: set[str] = set()

    def rescue(names: list[Path]) -> set[Path]:
        nonlocal count
        unrecorded = record_files(engine, spool, names)
        count += len(names) - len(unrecorded)
        left.update(name.parent.name for name in unrecorded)
        return unrecorded

    swept = spool.drafts.sweep(rescue, spared)
    # After the rows, so that a series is not complete without them.
    closed = _close_associations(engine, spool, spared)
    if closed or swept:
        LOGGER.warning(
            "recovered: %d associations closed, %d temporary files deleted, %d files recorded", closed, swept, count
        )
    return RecoveryResult(count, frozenset(left))


def record_files(engine: Engine, spool: Spool, names: list[Path]) -> set[Path]:
    """Record stored files by their temporary links; return the links of those whose rows the ledger rejects."""
    receipts = _receipts(spool, names)
    recorded = _record(engine, spool, list(receipts.values()))
    return {name for name, receipt in receipts.items() if receipt.path not in recorded}


def _close_associations(engine: Engine, spool: Spool, spared: Callable[[], Collection[str]]) -> int:
    """Close what dead receivers of any machine left open; return how many associations."""
    with engine.connect() as connection:
        receivers = open_receivers(connection)
    alive = spared() if receivers else ()  # after that: a process is a member before it serves an association
    dead = [receiver for receiver in receivers if receiver not in alive and not spool.drafts.is_locked(receiver)]
    if not dead:
        return 0
    with begin_immediate(engine) as connection:
        return close_associations_of(connection, dead, ledger_clock(connection))


def record_unrecorded(engine: Engine, spool: Spool, stop: threading.Event) -> int:
    """Record every file of the spool that has neither a row nor a living writer; return how many.

    Needed when the ledger was lost, or when a power cut took temporary links. Reads all names of the spool, and only
    those files whose row is missing.
    """
    count = 0
    for study, paths in spool.received():
        if stop.is_set():
            break
        with engine.connect() as connection:
            # What was purged while this machine was away is still to be deleted here.
            purged = purged_holdings(connection, spool.machine) if spool.machine else set()
            known = known_paths(connection, study)
        unknown = [path for path in paths if path not in known and folder_of(path) not in purged]
        alone = [path for path in unknown if not spool.drafts.has_writer(spool.absolute(path))]
        count += len(
            _record(engine, spool, [receipt for path in alone for receipt in _receipt_of(spool.absolute(path), path)])
        )
    if count:
        LOGGER.warning("recovered: %d files of the spool had no ledger row and were recorded", count)
    return count


def _receipts(spool: Spool, names: list[Path]) -> dict[Path, Receipt]:
    """Read the receipt of each file from its temporary link; unreadable files are left out."""
    receipts = {}
    for name in names:
        for receipt in _receipt_of(name, str(name)):
            path = spool.path_of(
                name, receipt.study_instance_uid, receipt.series_instance_uid, receipt.sop_instance_uid
            )
            if path is not None:
                sync_folder(spool.absolute(path).parent)  # its writer may have died before it synced
                receipts[name] = replace(receipt, path=path, conflict=path.startswith("conflicts/"))
    return receipts


def _record(engine: Engine, spool: Spool, receipts: list[Receipt]) -> set[str]:
    """Write the rows, one by one if the ledger rejects them together; return the paths that were recorded."""
    if not receipts:
        return set()
    try:
        with begin_immediate(engine) as connection:
            record_receipts(connection, spool, receipts)
    except (SQLAlchemyError, ValueError) as error:
        if len(receipts) > 1:
            return set().union(*(_record(engine, spool, [receipt]) for receipt in receipts))
        LOGGER.error("%s: the ledger rejects its row: %s", receipts[0].path, error)  # noqa: TRY400 - no traceback
        return set()
    return {receipt.path for receipt in receipts}


def _receipt_of(file: Path, path: str) -> Iterator[Receipt]:
    """Yield the receipt of the file stored as ``path``; nothing if it cannot be read."""
    try:
        meta = read_file_meta_info(file)
        with file.open("rb") as stream:
            digest = digest_of(stream)
            stream.seek(dataset_offset(file))
            syntax = str(meta.get("TransferSyntaxUID", ""))
            identity = read_identity(stream, syntax)
        state = file.stat()
    except (InputError, *NOT_DICOM) as error:
        LOGGER.error("%s has no ledger row and cannot be read; it is kept unchanged: %s", path, error)  # noqa: TRY400
        return
    yield Receipt(
        sop_instance_uid=identity.sop_instance_uid,
        sop_class_uid=identity.sop_class_uid,
        transfer_syntax_uid=syntax,
        study_instance_uid=identity.study_instance_uid,
        series_instance_uid=identity.series_instance_uid,
        modality=identity.modality,
        path=path,
        digest=digest,
        size=state.st_size,
        conflict=path.startswith("conflicts/"),
        association=None,
        received_at=state.st_mtime,
    )
