"""Free space of the disk that keeps the files, and when it is too little to receive.

``node.receive.storage`` refuses images by it, with A700.
"""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Space:
    """Bytes of one file system."""

    total: int
    free: int
    """What an unprivileged process may still use."""

    @property
    def used(self) -> int:
        """What an unprivileged process cannot use any more."""
        return self.total - self.free

    @property
    def free_gib(self) -> float:
        """``free`` in GiB, the unit of the configuration."""
        return self.free / 2**30

    def is_below(self, min_free_gib: float) -> bool:
        """Whether images are refused with this ``[storage] min_free_gib``."""
        return self.free_gib < min_free_gib


def space_of(folder: Path) -> Space:
    """Ask the file system of ``folder``."""
    disk = shutil.disk_usage(folder)
    return Space(total=disk.total, free=disk.free)


class SpaceReader:
    """Asks a file system that may never answer, and keeps nobody waiting for it. For one thread at a time."""

    def __init__(self, folder: Path, wait_seconds: float = 1.0) -> None:
        self._folder = folder
        self._wait_seconds = wait_seconds
        self._asking: threading.Thread | None = None
        self._answer: Space | None = None

    def read(self) -> Space | None:
        """Return the space; ``None`` when it cannot be had in ``wait_seconds``, and at once until then."""
        if self._asking is None or not self._asking.is_alive():
            self._answer = None
            self._asking = threading.Thread(target=self._ask, name="free space", daemon=True)
            self._asking.start()
            self._asking.join(self._wait_seconds)
        return None if self._asking.is_alive() else self._answer

    def _ask(self) -> None:
        with suppress(OSError):
            self._answer = space_of(self._folder)
