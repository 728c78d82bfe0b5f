"""Which files a machine serves: those of the spool, under exactly the names that it gives them, and handovers."""

from __future__ import annotations

import re
from pathlib import Path

from node.inference.task import FINDINGS
from node.spool.local_files import JOB, regular_file, stored_file

_HANDOVER = re.compile(rf"work/{JOB}/{re.escape(FINDINGS)}", re.ASCII)


def served_file(folder: Path, path: str) -> Path | None:
    """Return the file at ``path`` below the storage folder; ``None`` when it does not exist or is not served."""
    return regular_file(folder / path) if _HANDOVER.fullmatch(path) else stored_file(folder, path)
