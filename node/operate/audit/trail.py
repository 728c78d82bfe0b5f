"""The local audit file: one line per message, chained by SHA-256, which makes changes detectable.

A line is ``SHA-256 of the previous line, a space, the message``. Lines cut off the end show at the syslog server, which
has a copy of each message.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from node.errors import LedgerError, PlatformError

BEGINNING = "0" * 64
"""Stands in the first line for the digest of a line before it."""
_TAIL = 1 << 20


class Trail:
    """Appends to a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, messages: list[str]) -> None:
        """Write messages in order and sync.

        Raises ``PlatformError`` when the file cannot be written.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                previous = _last_digest(file.fileno())
                for message in messages:
                    line = f"{previous} {message}".encode()
                    file.write(line + b"\n")
                    previous = hashlib.sha256(line).hexdigest()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PlatformError(
                f"[audit] file {self._path}: {error.strerror}; give a folder it may write to"
            ) from error


def _last_digest(descriptor: int) -> str:
    """Digest of the last whole line; a line that a crash cut short is taken off first."""
    size = os.fstat(descriptor).st_size
    if not size:
        return BEGINNING
    start = max(size - _TAIL, 0)
    tail = os.pread(descriptor, size - start, start)
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        os.ftruncate(descriptor, start + whole)
    lines = tail[:whole].splitlines()
    return hashlib.sha256(lines[-1]).hexdigest() if lines else BEGINNING


def verify(path: Path) -> Iterator[tuple[int, str]]:
    """Number and fault of every line that does not continue the chain.

    Raises ``LedgerError`` when the file cannot be read.
    """
    previous = BEGINNING
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                line = raw.removesuffix(b"\n")
                if line[:64].decode("ascii", "replace") != previous:
                    yield number, "does not follow from the line before: that one was changed, or lines are missing"
                previous = hashlib.sha256(line).hexdigest()
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror}); give the audit file") from error
