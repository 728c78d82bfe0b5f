"""Objects as Part 10 files in a folder, each whole and durable or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.deliver.object_result import Answer, Store
from node.errors import UnreachableError
from node.ledger.pending_deliveries import PendingObject
from node.spool import Spool, sync_folder

_BLOCK = 1 << 20


def check_folder(name: str, folder: Path) -> None:
    """Raises ``UnreachableError`` unless the folder exists, and is ours to write."""
    if not folder.is_dir():
        raise UnreachableError(f"{name} ({folder}): there is no such folder; mount or make it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnreachableError(f"{name} ({folder}): this user may not write there; change its owner or rights")


@contextmanager
def filing(name: str, folder: Path, spool: Spool) -> Iterator[Store]:
    """Write below ``folder``, which must exist: the place of an archive that is not mounted must not be filled.

    Raises ``UnreachableError`` then.
    """
    check_folder(name, folder)
    yield lambda one: _file(one, folder, spool)


def _file(owed: PendingObject, folder: Path, spool: Spool) -> Answer:
    target = folder / owed.study_instance_uid / owed.series_instance_uid / f"{owed.sop_instance_uid}.dcm"
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with spool.absolute(owed.path).open("rb") as source, part.open("wb") as file:
                while block := source.read(_BLOCK):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        for changed in (target.parent, target.parent.parent, folder):
            sync_folder(changed)
    except OSError as error:
        return Answer(status=None, comment=f"{target} cannot be written ({error.strerror or error})", lost=True)
    return Answer(status=0x0000, comment="written")
