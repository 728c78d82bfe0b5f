"""How much a process that runs models has written: looked at while it runs, because no kernel bounds a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from node.errors import PipelineError

MOST_BYTES = 16 << 30
"""In one folder: a zipped model that is unpacked, temporary files, a handover, compiled code."""
MOST_ENTRIES = 100_000
_MOST_LEVELS = 64
_LEAST_SECONDS = 2.0
_SHARE = 0.05
"""Of the time that may be spent with looking."""


class FolderWatch:
    """Looks at folders now and then."""

    def __init__(self, folders: Collection[Path]) -> None:
        self._folders = folders
        self._next = time.monotonic() + _LEAST_SECONDS

    def look(self, about: str) -> None:
        """Raise ``PipelineError`` when a folder holds more than it may."""
        began = time.monotonic()
        if began < self._next:
            return
        for folder in self._folders:
            if why := excess(folder):
                raise PipelineError(f"{about} wrote {why} and was killed; it may write {MOST_BYTES >> 30} GiB")
        spent = time.monotonic() - began
        self._next = began + max(_LEAST_SECONDS, spent / _SHARE)


def excess(folder: Path) -> str:
    """Return what of a folder is beyond the bounds, or ``""``. Links are not followed; what vanishes does not count."""
    total = entries = 0
    folders = [(folder, 0)]
    while folders:
        place, level = folders.pop()
        if level > _MOST_LEVELS:
            return f"folders of more than {_MOST_LEVELS} levels"
        with suppress(OSError), os.scandir(place) as children:
            for child in children:
                entries += 1
                if entries > MOST_ENTRIES:
                    return f"more than {MOST_ENTRIES} files and folders"
                with suppress(OSError):
                    total += child.stat(follow_symlinks=False).st_blocks * 512
                if child.is_dir(follow_symlinks=False):
                    folders.append((Path(child.path), level + 1))
        if total > MOST_BYTES:
            return f"more than {MOST_BYTES >> 30} GiB"
    return ""
