"""The id of a machine: random, made once, kept in its storage folder."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from node.spool.files import sync_folder

_FILE = "machine-id"


def machine_id(folder: Path) -> str:
    """Return the id that is kept in ``folder``; make it if there is none. Processes that do so at once agree."""
    file = folder / _FILE
    if not file.exists():
        draft = folder / f".{_FILE}-{uuid.uuid4().hex}"
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
        try:
            os.write(descriptor, uuid.uuid4().hex.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError):
            os.link(draft, file)
        draft.unlink()
        sync_folder(folder)
    return file.read_text().strip()
