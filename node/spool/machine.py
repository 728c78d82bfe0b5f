"""The id of a machine: random, made once, kept in its storage folder."""

from __future__ import annotations

import uuid
from pathlib import Path

from node.spool.files import write_once

_FILE = "machine-id"


def machine_id(folder: Path) -> str:
    """Return the id that is kept in ``folder``; make it if there is none. Processes that do so at once agree."""
    file = folder / _FILE
    if not file.exists():
        write_once(file, uuid.uuid4().hex, 0o640)
    return file.read_text().strip()
