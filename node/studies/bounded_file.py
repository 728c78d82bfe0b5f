"""A stored file whose reads are bounded by its own size."""

from __future__ import annotations

import io
import os
from pathlib import Path


class BoundedFile(io.BufferedReader):
    """No read allocates more than the file holds, whatever length an element states: Python allocates first."""

    def __init__(self, file: Path | int, buffering: int = io.DEFAULT_BUFFER_SIZE) -> None:
        """``file``: its path, or a descriptor, which is closed with it; ``buffering``: bytes that are read at once."""
        super().__init__(io.FileIO(file), buffering)
        state = os.fstat(self.fileno())
        self._size = state.st_size
        self.version = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        """Changes with the file: its device and inode, bytes, and nanoseconds of its last change."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None or size < 0 else min(size, self._size))
