"""The file format of packs: a ZIP archive whose members are stored as they lie in the storage folder, uncompressed.

Any program reads it. A member has the path of its file as its name and the ledger's digest as its comment, so the
ledger can be rebuilt from packs. The same files give the same bytes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import IO, Any, Protocol

from blake3 import blake3

from node.errors import InputError, PlatformError
from node.ledger.holdings import RecordedFile
from node.ledger.packed_files import PackedFile
from node.spool import digest_of
from node.spool.digest import written

FOLDER = "packs"
"""Names of packs begin with it, below the prefix of the store."""
LARGEST_PACK = 512 << 20
"""A series beyond this many bytes becomes several packs; an image beyond it is not packed."""
_BLOCK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that ZIP knows: the same files give the same pack."""


class _Copy:
    """What is copied to ``target``, with its digest."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self.digest = blake3()
        self.size = 0

    def copy(self, source: BufferedIOBase) -> None:
        while block := source.read(_BLOCK):
            self._target.write(block)
            self.digest.update(block)
            self.size += len(block)


def pack_name(digest: str) -> str:
    """Return the name of the pack whose content has this digest."""
    return f"{FOLDER}/{digest.rpartition(':')[2]}.zip"


def portions(files: Mapping[str, RecordedFile]) -> list[dict[str, RecordedFile]]:
    """Divide the files of a series into packs, in order. Files that are too large are left out."""
    parts: list[dict[str, RecordedFile]] = []
    size = LARGEST_PACK
    for path, of in files.items():
        if of.size > LARGEST_PACK:
            continue
        if size + of.size > LARGEST_PACK:
            parts.append({})
            size = 0
        parts[-1][path] = of
        size += of.size
    return parts


def write_pack(target: Path, files: Mapping[str, tuple[Path, str]]) -> tuple[str, dict[str, PackedFile]]:
    """Write a pack of files, given as path -> place and digest of the ledger; return its name and its files.

    Raises ``PlatformError`` for a file that is not as the ledger recorded it, ``OSError`` when one cannot be read.
    """
    positions: dict[str, tuple[int, int]] = {}
    with target.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path, (place, digest) in files.items():
                with place.open("rb") as source:
                    member = zipfile.ZipInfo(path, _EPOCH)
                    member.external_attr = 0o640 << 16
                    member.comment = digest.encode()
                    member.file_size = place.stat().st_size
                    with archive.open(member, "w") as part:
                        position = file.tell()
                        copied = _Copy(part)
                        copied.copy(source)
                    if digest != _as_recorded(copied, place, digest):
                        raise PlatformError(f"{place} is not as it was recorded; `ainode verify` says more")
                    positions[path] = position, copied.size
        file.flush()
    with target.open("rb") as file:
        name = pack_name(digest_of(file))
    return name, {path: PackedFile(name, *at, files[path][1]) for path, at in positions.items()}


def _as_recorded(copied: _Copy, place: Path, digest: str) -> str:
    """Return the digest in the algorithm of the recorded one, which older versions took from SHA-256."""
    if ":" in digest:
        return written(copied.digest)
    with place.open("rb") as source:
        return digest_of(source, digest)


class _Ranges(Protocol):
    def read(self, name: str, ranges: list[tuple[int, int]]) -> list[memoryview]: ...


class _Remote(RawIOBase):
    """An object of the store as a file that reads ranges."""

    def __init__(self, objects: _Ranges, name: str, size: int) -> None:
        self._objects, self._name, self._size, self._at = objects, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        buffer[:length] = self._objects.read(self._name, [(self._at, length)])[0]
        self._at += length
        return length


def remote_index(objects: _Ranges, name: str, size: int) -> dict[str, str]:
    """Return path -> digest of the files in a pack, as its index in the store says.

    Raises ``InputError`` when it is no pack.
    """
    import io

    try:
        with zipfile.ZipFile(io.BufferedReader(_Remote(objects, name, size), 1 << 16)) as archive:
            return {member.filename: member.comment.decode() for member in archive.infolist()}
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise InputError(f"{name} is no pack: {error}") from error
