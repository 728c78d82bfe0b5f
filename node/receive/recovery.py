"""Start-up: what a killed predecessor left is brought into order before the first association."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import sqlalchemy as sa
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from node.errors import InputError
from node.ledger.engine import begin_immediate, now
from node.ledger.instances import (
    Receipt,
    close_associations_of,
    known_paths,
    open_receivers,
    record_instances,
)
from node.receive.head import read_head
from node.spool import Spool, dataset_offset

LOGGER = logging.getLogger(__name__)


def recover(engine: sa.Engine, spool: Spool) -> int:
    """Close associations of dead receivers, sweep temporaries, record files without a row; return how many had none.

    Safe while other receivers work: what is theirs is left alone, and recording a file twice changes nothing.
    """
    with begin_immediate(engine) as connection:
        dead = [receiver for receiver in open_receivers(connection) if not spool.is_alive(receiver)]
        stale = close_associations_of(connection, dead, now())
    swept = spool.sweep()
    found = sum(_recover_study(engine, spool, study, paths) for study, paths in spool.received())
    if stale or swept or found:
        LOGGER.warning(
            "recovered: %d association(s) closed, %d temporaries swept, %d file(s) recorded", stale, swept, found
        )
    return found


def _recover_study(engine: sa.Engine, spool: Spool, study: str, paths: list[str]) -> int:
    with engine.connect() as connection:
        unknown = sorted(set(paths) - known_paths(connection, study))
    receipts = []
    for path in unknown:
        try:
            receipts.append(_receipt(spool.absolute(path), path))
        except (InputError, InvalidDicomError) as error:
            LOGGER.error("%s has no row and cannot be read, it stays as it is: %s", path, error)  # noqa: TRY400
    if receipts:
        with begin_immediate(engine) as connection:
            record_instances(connection, receipts)
    return len(receipts)


def _receipt(file: Path, path: str) -> Receipt:
    meta = read_file_meta_info(file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(dataset_offset(file))
        head = read_head(stream, meta.TransferSyntaxUID)
    state = file.stat()
    return Receipt(
        sop_instance_uid=head.sop_instance_uid,
        sop_class_uid=head.sop_class_uid,
        transfer_syntax_uid=meta.TransferSyntaxUID,
        study_instance_uid=head.study_instance_uid,
        series_instance_uid=head.series_instance_uid,
        modality=head.modality,
        path=path,
        sha256=digest,
        size=state.st_size,
        conflict=path.startswith("conflicts/"),
        association=None,
        received_at=state.st_mtime,
    )
