"""Free space of the disk that keeps the files, and when it is too little to receive.

``node.receive.storage`` refuses images by it, with A700.
"""

from __future__ import annotations

import shutil
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
