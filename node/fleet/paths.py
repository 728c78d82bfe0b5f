"""Which files a machine serves: those of the spool, under exactly the names that it gives them."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from node.inference.task import FINDINGS

_UID = r"[0-9]+(?:\.[0-9]+)*"
_JOB = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_SERVED = re.compile(
    rf"incoming/{_UID}/{_UID}/{_UID}\.dcm"
    rf"|conflicts/{_UID}/{_UID}/{_UID}\.[0-9a-f]{{16}}\.dcm"
    rf"|results/{_JOB}/{_UID}\.dcm"
    rf"|work/{_JOB}/{re.escape(FINDINGS)}",
    re.ASCII,
)


def served_file(folder: Path, path: str) -> Path | None:
    """Return the file at ``path`` below the storage folder; ``None`` when it does not exist or is not served."""
    if not _SERVED.fullmatch(path):
        return None
    file = folder / path
    try:
        is_file = stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return None
    return file if is_file else None
