"""Digests of what a pack in the store has now: of the whole, and of each file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from blake3 import blake3

from node.errors import AbsentFileError, PlatformError
from node.ledger.packed_files import PackedFile
from node.object_store.pack_file import pack_name
from node.object_store.store import Objects
from node.spool.digest import written


def is_whole(objects: Objects, name: str, size: int) -> bool:
    """Read a pack back; return whether it has the size, and the content that its name says."""
    digest, read = blake3(), 0
    try:
        for part in objects.stream(name, size):
            digest.update(part)
            read += len(part)
    except AbsentFileError:
        raise
    except PlatformError:  # it is not there
        return False
    return read == size and pack_name(written(digest)) == name


def digests_in_pack(objects: Objects, name: str, files: Mapping[str, PackedFile]) -> dict[str, str | None]:
    """Return path -> digest of the files of a pack; "": the pack has gone, ``None``: the store does not answer."""
    digests: dict[str, str | None] = {}
    try:
        stream = _Stream(objects.stream(name, max((of.position + of.size for of in files.values()), default=0)))
        for path, of in sorted(files.items(), key=lambda item: item[1].position):
            digests[path] = _digest(stream.part(of.position, of.size), of.digest)
    except AbsentFileError:
        return dict.fromkeys(files)
    except PlatformError:
        return dict.fromkeys(files, "")
    return digests


def _digest(parts: Iterator[memoryview], like: str) -> str:
    if ":" not in like:
        sha256 = hashlib.sha256()
        for part in parts:
            sha256.update(part)
        return sha256.hexdigest()
    digest = blake3()
    for part in parts:
        digest.update(part)
    return written(digest)


class _Stream:
    """Bytes that come in order, of which parts are taken in order."""

    def __init__(self, blocks: Iterator[memoryview]) -> None:
        self._blocks = blocks
        self._at = 0
        self._rest = memoryview(b"")

    def part(self, position: int, size: int) -> Iterator[memoryview]:
        """Yield the bytes from ``position``, as many of ``size`` as there are."""
        for _ in self._take(position - self._at):
            pass
        yield from self._take(size)

    def _take(self, count: int) -> Iterator[memoryview]:
        while count > 0:
            if not self._rest:
                block = next(self._blocks, None)
                if block is None:
                    return
                self._rest = block
            part, self._rest = self._rest[:count], self._rest[count:]
            count -= len(part)
            self._at += len(part)
            yield part
