"""One file or folder: a draft that grows, locks, syncing, and what two files of one instance have in common."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from node.errors import InputError
from node.spool.digest import written

_BLOCK = 1 << 20


class Draft:
    """A temporary that grows. It keeps its name when ``Spool.keep`` gave the file another one, until ``discard``."""

    def __init__(self, name: str, descriptor: int) -> None:
        """``name``: absolute, a string because paths take longer to make than files."""
        self.name = name
        self.descriptor = descriptor
        """Open for reading and writing."""
        self.size = 0
        self._digest = blake3()
        self._open = True

    @property
    def path(self) -> Path:
        """Its temporary name."""
        return Path(self.name)

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return written(self._digest)

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Append at most 1024 parts (IOV_MAX). Raises ``OSError`` when the disk refuses."""
        end = self.size
        for part in parts:
            self._digest.update(part)
            end += len(part)
        self.size += os.writev(self.descriptor, parts)
        if self.size < end:  # the disk took a part of it: it says why, or takes the rest
            rest = memoryview(b"".join(parts))
            while self.size < end:
                self.size += os.write(self.descriptor, rest[self.size - end :])

    def close(self) -> None:
        """Nothing more is written or read; again does no harm."""
        if self._open:
            self._open = False
            os.close(self.descriptor)

    def discard(self) -> None:
        """Close it and take the temporary name away; again does no harm."""
        self.close()
        with suppress(FileNotFoundError):
            os.unlink(self.name)  # noqa: PTH108 - no path, see above


def locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; ``None`` when its writer is alive, or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def new_locked(below: Path) -> tuple[Path, int]:
    """A new folder of this process and the descriptor that holds its lock; another one when a sweep came in between."""
    while True:
        folder = below / f"{os.getpid()}-{uuid.uuid4().hex}"
        folder.mkdir()
        descriptor = locked(folder)
        if descriptor is not None and os.fstat(descriptor).st_nlink:
            return folder, descriptor
        if descriptor is not None:
            os.close(descriptor)


def sync_folder(folder: str | Path) -> None:
    """Make what was linked, renamed or made in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def dataset_offset(path: Path) -> int:
    """Where the data set begins: behind preamble, prefix and File Meta Information (PS3.10 7.1).

    Raises ``InputError`` when the file has no File Meta Information Group Length, which all our files have.
    """
    with path.open("rb") as file:
        head = file.read(144)
    if len(head) < 144 or head[128:132] != b"DICM" or head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        raise InputError(f"{path}: no DICOM file with File Meta Information; it was not written by this node")
    return 144 + int.from_bytes(head[140:144], "little")


def same_dataset(one: Path, other: Path) -> bool:
    """Whether two Part 10 files hold the same data set, byte for byte; their File Meta Information may differ."""
    with one.open("rb") as first, other.open("rb") as second:
        first.seek(dataset_offset(one))
        second.seek(dataset_offset(other))
        while True:
            block = first.read(_BLOCK)
            if block != second.read(_BLOCK):
                return False
            if not block:
                return True
