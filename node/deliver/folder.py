"""Delivery to a folder as Part 10 files, each written atomically and durably."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.deliver.object_result import Answer, Store
from node.errors import UnreachableError
from node.ledger.pending_deliveries import PendingObject
from node.spool import Spool, sync_folder

_BLOCK = 1 << 20


def check_folder(name: str, folder: Path) -> None:
    """Raise ``UnreachableError`` unless the folder exists and is writable."""
    if not folder.is_dir():
        raise UnreachableError(f"{name} ({folder}): folder does not exist; mount or create it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnreachableError(f"{name} ({folder}): no write permission; change its owner or permissions")


@contextmanager
def folder_store(name: str, folder: Path, spool: Spool) -> Iterator[Store]:
    """Store below ``folder``. It is not created, because an archive that is not mounted must not be filled.

    Raises ``UnreachableError`` when it does not exist or is not writable.
    """
    check_folder(name, folder)
    yield lambda instance: _file(instance, folder, spool)


def _file(instance: PendingObject, folder: Path, spool: Spool) -> Answer:
    target = folder / instance.study_instance_uid / instance.series_instance_uid / f"{instance.sop_instance_uid}.dcm"
    part = target.with_suffix(f".{uuid.uuid4().hex}.part")  # processes of two machines may have one number
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with spool.readable(instance.path).open("rb") as source, part.open("wb") as file:
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
