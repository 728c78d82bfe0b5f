"""The files of an upload: those below a folder, one file, or the members of a ZIP archive."""

from __future__ import annotations

import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from node.errors import InputError
from node.spool import LARGEST_OBJECT

MOST_FILES = 100_000
"""Of one upload."""
_LARGEST_DIRECTORY = 64 << 20
"""Bytes of the central directory of an archive, which takes ten times as much memory."""
_BEGINNING = b"PK\x03\x04"
_END_OF_DIRECTORY = b"PK\x05\x06"
_LONGEST_END = 22 + 65535
"""Bytes of the end of central directory record with its comment (APPNOTE.TXT 4.3.16)."""
_BLOCK = 1 << 20
_ENCRYPTED = 0x1
"""Flag of a member (APPNOTE.TXT 4.4.4)."""
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError, ValueError)
"""Raised for damaged members and for unknown compressions."""


class MediumFile(Protocol):
    """One file of an upload."""

    @property
    def name(self) -> str:
        """Return its path below the folder or in the archive; it may hold the name of a patient."""

    def beginning(self, count: int) -> bytes:
        """Return its first bytes, up to ``count``. Raises ``InputError`` when it cannot be read."""

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Have the whole file on a disk for the time of the block. Raises ``InputError`` when it cannot be read."""


@dataclass(frozen=True)
class _PlainFile:
    path: Path
    name: str

    def beginning(self, count: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                return file.read(count)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        yield self.path


@dataclass(frozen=True)
class _Member:
    archive: zipfile.ZipFile
    member: zipfile.ZipInfo
    folder: Path

    @property
    def name(self) -> str:
        return self.member.filename

    def beginning(self, count: int) -> bytes:
        return next(self._blocks(count), b"")

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(dir=self.folder) as copy:
            for block in self._blocks(_BLOCK):
                if copy.tell() > LARGEST_OBJECT:
                    raise InputError(f"it has more than {LARGEST_OBJECT} bytes")
                copy.write(block)
            copy.flush()
            yield Path(copy.name)

    def _blocks(self, count: int) -> Iterator[bytes]:
        if self.member.flag_bits & _ENCRYPTED:
            raise InputError("it is encrypted in the archive; unpack the archive and send its folder")
        try:
            with self.archive.open(self.member) as file:
                while block := file.read(count):
                    yield block
        except _UNREADABLE as error:
            raise InputError("it is damaged in the archive; make the archive again") from error


@contextmanager
def opened_medium(path: Path, folder: Path) -> Iterator[Sequence[MediumFile]]:
    """Open a folder, a ZIP archive or a single file.

    Members of an archive are unpacked one by one to ``folder``, under names of this program.
    Raises ``InputError`` when the archive is damaged or has too many files.
    """
    if path.is_dir():
        yield _bounded(
            [_PlainFile(file, str(file.relative_to(path))) for file in sorted(path.rglob("*")) if file.is_file()]
        )
        return
    with path.open("rb") as stream:
        if stream.read(4) != _BEGINNING:
            yield [_PlainFile(path, path.name)]
            return
        _check_directory(path, stream)
        with _opened(stream) as archive:
            members = [_Member(archive, member, folder) for member in archive.infolist() if not member.is_dir()]
            yield _bounded(members)


def _bounded(files: Sequence[MediumFile]) -> Sequence[MediumFile]:
    if len(files) > MOST_FILES:
        raise InputError(f"{len(files)} files, at most {MOST_FILES} in one upload; upload them in parts")
    return files


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(stream)
    except _UNREADABLE as error:
        raise InputError(f"the archive is damaged ({error}); make or copy it again") from error
    with archive:
        yield archive


def _check_directory(path: Path, stream: BinaryIO) -> None:
    """Raise ``InputError`` if the archive states a central directory that takes too much memory."""
    stream.seek(max(path.stat().st_size - _LONGEST_END, 0))
    end = stream.read()
    at = end.rfind(_END_OF_DIRECTORY)
    if at < 0:
        raise InputError("the archive is not complete; make or copy it again")
    if int.from_bytes(end[at + 12 : at + 16], "little") > _LARGEST_DIRECTORY:
        raise InputError("the archive has too many files; upload it in parts")
