"""The cache: copies of files that other tiers hold, each below the digest that it was compared with."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from node.errors import PlatformError
from node.spool.digest import digest_of
from node.spool.free_space import space_of
from node.spool.tiers import Content

IN_USE_SECONDS = 3600.0
"""A copy that was used within this time is not deleted."""
KEPT_SECONDS = 86400.0
"""A copy that was not used for this long is deleted: its study may have been purged."""
_DIGEST = re.compile(r"(?:blake3:)?([0-9a-f]{64})", re.ASCII)


class Cache:
    """The copies on one machine. Any number of processes and threads may use the same folder."""

    def __init__(self, folder: Path, min_free_gib: float = 0.0) -> None:
        """``min_free_gib``: below it nothing more is fetched."""
        self._folder = folder
        self._min_free_gib = min_free_gib

    def fetch(self, wanted: Mapping[str, Content]) -> dict[str, Path]:
        """Return the copies of files that are here, each of which stays for ``IN_USE_SECONDS``."""
        copies = {}
        for path, of in wanted.items():
            copy = self._place(of.digest) / _name(path)
            with suppress(FileNotFoundError):
                os.utime(copy)
                copies[path] = copy
        return copies

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield the name of a new file, which is deleted at the end unless it was added.

        Raises ``PlatformError`` when too little space is left.
        """
        space = space_of(self._folder)
        if space.is_below(self._min_free_gib):
            raise PlatformError(f"disk full: {space.free_gib:.2f} GiB free, limit {self._min_free_gib:g} GiB")
        part = self._folder / f"{uuid.uuid4().hex}.part"
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def add(self, part: Path, path: str, content: Content) -> Path | None:
        """Add a durable draft as the copy of ``path``; return its place, ``None`` when it has other content.

        Its name is not durable: a power cut may take the copy, and never changes it.
        """
        with part.open("rb") as file:
            if digest_of(file, content.digest) != content.digest:
                return None
        place = self._place(content.digest)
        place.mkdir(mode=0o750, exist_ok=True)
        return part.replace(place / _name(path))

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


def _name(path: str) -> str:
    return path.rpartition("/")[2]
