"""Start-up: what a killed predecessor left is brought into order before the first association."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from node.errors import InputError
from node.ledger.associations import close_associations_of, open_receivers
from node.ledger.engine import begin_immediate, now
from node.ledger.instances import Receipt, known_paths, record_instances
from node.receive.dataset_identity import read_identity
from node.spool import Spool, dataset_offset, digest_of, sync_folder

LOGGER = logging.getLogger(__name__)


def recover(engine: Engine, spool: Spool) -> int:
    """Take over from dead receivers: close their associations, record their files that have no row; return how many.

    Quick, whatever the size of the spool: a file has a second name among its writer's temporaries until its row is
    durable. Other receivers may be at work.
    """
    with begin_immediate(engine) as connection:
        dead = [receiver for receiver in open_receivers(connection) if not spool.is_alive(receiver)]
        stale = close_associations_of(connection, dead, now())
    found = 0

    def rescue(names: list[Path]) -> set[Path]:
        nonlocal found
        receipts = _receipts(spool, names)
        recorded = _record(engine, list(receipts.values()))
        found += len(recorded)
        return {name for name, receipt in receipts.items() if receipt.path not in recorded}

    swept = spool.sweep(rescue)
    if stale or swept:
        LOGGER.warning(
            "recovered: %d association(s) closed, %d temporaries swept, %d file(s) recorded", stale, swept, found
        )
    return found


def search(engine: Engine, spool: Spool, stop: threading.Event) -> int:
    """Record every file of the spool that has no row and no writer that will write it; return how many.

    For a ledger that was lost, and for temporary names that a power cut took (a file system may forget the older of
    two changes). Reads all names of the spool, and files only when their row is missing.
    """
    found = 0
    for study, paths in spool.received():
        if stop.is_set():
            break
        with engine.connect() as connection:
            unknown = sorted(set(paths) - known_paths(connection, study))
        alone = [path for path in unknown if not spool.has_writer(path)]
        found += len(_record(engine, [receipt for path in alone for receipt in _read(spool.absolute(path), path)]))
    if found:
        LOGGER.warning("recovered: %d file(s) of the spool that had no row", found)
    return found


def _receipts(spool: Spool, names: list[Path]) -> dict[Path, Receipt]:
    """The receipt of each kept file that can be read, by its second name."""
    receipts = {}
    for name in names:
        for receipt in _read(name, str(name)):
            path = spool.path_of(
                name, receipt.study_instance_uid, receipt.series_instance_uid, receipt.sop_instance_uid
            )
            if path is not None:
                sync_folder(spool.absolute(path).parent)  # its writer may have died before it did
                receipts[name] = replace(receipt, path=path, conflict=path.startswith("conflicts/"))
    return receipts


def _record(engine: Engine, receipts: list[Receipt]) -> set[str]:
    """Write the rows, one by one where the ledger refuses them together; return the paths of those that it took."""
    if not receipts:
        return set()
    try:
        with begin_immediate(engine) as connection:
            record_instances(connection, receipts)
    except (SQLAlchemyError, ValueError) as error:
        if len(receipts) > 1:
            return set().union(*(_record(engine, [receipt]) for receipt in receipts))
        LOGGER.error("%s: the ledger refuses its row: %s", receipts[0].path, error)  # noqa: TRY400 - no traceback
        return set()
    return {receipt.path for receipt in receipts}


def _read(file: Path, path: str) -> Iterator[Receipt]:
    """The receipt of a file that is kept as ``path``, or nothing when it cannot be read."""
    try:
        meta = read_file_meta_info(file)
        with file.open("rb") as stream:
            digest = digest_of(stream)
            stream.seek(dataset_offset(file))
            syntax = str(meta.get("TransferSyntaxUID", ""))
            head = read_identity(stream, syntax)
        state = file.stat()
    except (InputError, InvalidDicomError, EOFError, OSError) as error:
        LOGGER.error("%s has no row and cannot be read, it stays as it is: %s", path, error)  # noqa: TRY400
        return
    yield Receipt(
        sop_instance_uid=head.sop_instance_uid,
        sop_class_uid=head.sop_class_uid,
        transfer_syntax_uid=syntax,
        study_instance_uid=head.study_instance_uid,
        series_instance_uid=head.series_instance_uid,
        modality=head.modality,
        path=path,
        digest=digest,
        size=state.st_size,
        conflict=path.startswith("conflicts/"),
        association=None,
        received_at=state.st_mtime,
    )
