"""Folder locks, syncing and comparison of data sets: operations on one file or folder.

Received files and results get their durable names in ``node.spool.spool``.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import suppress
from pathlib import Path

from node.errors import InputError
from node.process.port_lock import NO_LOCKS

META_BEGINS = 144
"""Bytes before the File Meta Information: preamble, prefix and group length (PS3.10 7.1)."""
_BLOCK = 1 << 20


def locked(folder: Path) -> int | None:
    """Lock a folder and return the descriptor; ``None`` when its writer is alive or the folder does not exist.

    Where the file system has no locks everybody gets one: then membership alone shows which writers are alive.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            os.close(descriptor)
            raise
    return descriptor


def new_locked(below: Path, name: str = "") -> tuple[Path, int]:
    """Create and lock a folder of this process; return it and the descriptor. Retries if a sweep took it."""
    folder = below / (name or uuid.uuid4().hex)
    while True:
        folder.mkdir(exist_ok=True)
        descriptor = locked(folder)
        if descriptor is not None and _is_at(descriptor, folder):
            return folder, descriptor
        if descriptor is not None:
            os.close(descriptor)


def _is_at(descriptor: int, folder: Path) -> bool:
    """Whether an open folder still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def sync_folder(folder: str | Path) -> None:
    """Make links, renames and new files in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def dataset_offset(path: Path) -> int:
    """Return where the data set begins, after preamble, prefix and File Meta Information (PS3.10 7.1).

    Raises ``InputError`` when the file has no File Meta Information Group Length, which this node always writes.
    """
    with path.open("rb") as file:
        offset = stated_offset(file.read(META_BEGINS))
    if offset is None:
        raise InputError(f"{path}: not a DICOM file written by this node (File Meta Information expected)")
    return offset


def stated_offset(beginning: bytes) -> int | None:
    """Return where the data set begins, as the first ``META_BEGINS`` bytes of a file state; ``None``: they do not."""
    if len(beginning) < META_BEGINS or beginning[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        return None
    return META_BEGINS + int.from_bytes(beginning[140:META_BEGINS], "little")


def same_dataset(path: Path, other_path: Path) -> bool:
    """Return whether two Part 10 files have identical data sets; their File Meta Information may differ."""
    with path.open("rb") as first, other_path.open("rb") as second:
        first.seek(dataset_offset(path))
        second.seek(dataset_offset(other_path))
        while True:
            block = first.read(_BLOCK)
            if block != second.read(_BLOCK):
                return False
            if not block:
                return True


def write_once(file: Path, text: str, mode: int) -> None:
    """Write a file durably, complete or not at all; one that another process has made meanwhile stays.

    Raises ``OSError``.
    """
    draft = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    with suppress(FileExistsError):
        os.link(draft, file)
    draft.unlink()
    sync_folder(file.parent)
