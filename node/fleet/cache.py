"""The cache: copies of files that other machines hold, each below the digest that it was compared with."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IN_USE_SECONDS = 3600.0
"""A copy that was used within this time is not deleted."""
KEPT_SECONDS = 86400.0
"""A copy that was not used for this long is deleted: its study may have been purged."""
_DIGEST = re.compile(r"(?:blake3:)?([0-9a-f]{64})", re.ASCII)


class Cache:
    """The copies on one machine. Any number of processes and threads may use the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str, name: str) -> Path | None:
        """Return the copy of a file, which stays for ``IN_USE_SECONDS``; ``None`` when there is none."""
        copy = self._place(digest) / name
        try:
            os.utime(copy)
        except FileNotFoundError:
            return None
        return copy

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield the name of a new file, which is deleted at the end unless it was added."""
        part = self._folder / f"{uuid.uuid4().hex}.part"
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def add(self, part: Path, digest: str, name: str) -> Path:
        """Add a file whose content was compared with ``digest`` and is durable; return its place.

        Its name is not: a power cut may take the copy, and never changes it.
        """
        place = self._place(digest)
        place.mkdir(mode=0o750, exist_ok=True)
        part.replace(place / name)
        return place / name

    def tidy(self, most_bytes: float) -> int:
        """Delete copies, those first that were unused for longest, until at most ``most_bytes`` are left.

        Return how many. Parts of files count as copies: their process has died when they are old.
        """
        at, copies = time.time(), []
        for place in self._folder.iterdir():
            with suppress(FileNotFoundError):
                files = [place] if place.is_file() else list(place.iterdir())
                states = [file.stat() for file in files]
                used_at = max((state.st_mtime for state in states), default=0.0)
                copies.append((used_at, sum(state.st_size for state in states), place))
        total, deleted = sum(size for _, size, _ in copies), 0
        for used_at, size, place in sorted(copies):
            unused = at - used_at
            if unused < IN_USE_SECONDS or (total <= most_bytes and unused < KEPT_SECONDS):
                continue
            if place.is_file():
                place.unlink(missing_ok=True)
            else:
                shutil.rmtree(place, ignore_errors=True)
            total, deleted = total - size, deleted + 1
        return deleted

    def _place(self, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ValueError(f"{digest!r} is no digest of the ledger")
        return self._folder / match[1]
