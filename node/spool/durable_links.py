"""Final names of files, which survive a power cut as soon as they are given."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from node.spool.files import sync_folder

_MOST_FOLDERS = 10_000


class DurableLinks:
    """Gives files their names below one folder; any thread may call."""

    def __init__(self, folder: Path, *, synced: bool) -> None:
        """``synced=False``: names survive a crash of the process, but not of the machine."""
        self._folder = folder
        self._synced = synced
        self._lock = threading.Lock()
        self._durable: set[str] = set()

    def add(self, temporary: str, path: str) -> bool:
        """Link a temporary file to its final name; ``False`` if that exists. Durable in both cases."""
        target = f"{self._folder}/{path}"
        folder = target.rpartition("/")[0]
        new = True
        if folder not in self._durable:
            self.make_folder(folder)
        try:
            try:
                os.link(temporary, target)
            except FileNotFoundError:  # the folder's last file was purged, and the folder with it
                self.make_folder(folder)
                os.link(temporary, target)
        except FileExistsError:
            new = False
        # Also if the name existed: another thread may have linked it without having synced the folder yet.
        if self._synced:
            sync_folder(folder)
        return new

    def make_folder(self, name: str) -> None:
        """Create a folder durably."""
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        ancestor = folder.parent
        while ancestor != self._folder.parent:
            sync_folder(ancestor)
            ancestor = ancestor.parent
        with self._lock:
            if len(self._durable) > _MOST_FOLDERS:
                self._durable.clear()
            self._durable.add(name)
