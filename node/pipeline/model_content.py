"""Content of third-party models: folders without links, and zip files that are checked before they are unpacked."""

from __future__ import annotations

import errno
import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from node.errors import WeightsError

MOST_FILES = 20_000
MOST_BYTES = 64 << 30
"""Of one model, unpacked; the largest public ones have 10 GiB."""
DIRECTORY_BYTES = 4 << 20
"""Of a zip file; 20,000 names take about 3 MiB."""
_MOST_LEVELS = 32
_LONGEST_NAME = 255
_COMPRESSED_TO, _RATIO_FROM = 100, 1 << 30
"""Weights are hardly compressed, text to a tenth: beyond this ratio, for more than this size, it is a bomb."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that inflate piece by piece."""
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def check_folder(folder: Path, *, hard_links: bool) -> None:
    """Check that a folder holds only folders and files, within the limits of a model. Raises ``WeightsError``.

    ``hard_links``: accept files that have other names as well.
    """
    files = total = 0
    folders = [folder]
    while folders:
        below = folders.pop()
        for entry in below.iterdir():
            state = entry.lstat()
            if stat.S_ISDIR(state.st_mode):
                _check_levels(entry, entry.relative_to(folder))
                folders.append(entry)
                files += 1
            elif not stat.S_ISREG(state.st_mode):
                raise WeightsError(f"{entry} is a link, pipe, socket or device; copy the files themselves: cp -rL")
            elif state.st_nlink > 1 and not hard_links:
                raise WeightsError(f"{entry} is a second name of another file (hard link); copy the folder: cp -r")
            else:
                files, total = files + 1, total + state.st_size
            check_limits(folder, files=files, total=total)


def member_names(path: Path) -> list[str]:
    """Return the names in a zip file. Raises ``WeightsError`` when it reaches out of a model or beyond its limits."""
    with _opened(path) as archive:
        return archive.namelist()


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip file. Raises ``WeightsError``, as ``member_names``, and when its content is damaged."""
    with _opened(path) as archive:
        archive.extractall(folder)  # no member gets longer than the directory states


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with _ShortReads(path) as file, zipfile.ZipFile(file) as archive:
            _check_members(path, archive.infolist())
            yield archive
    except (*_UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: an offset outside of the file
            raise
        raise WeightsError(
            f"weights: {path} is no zip file that can be read ({error}); give it as its author packs it"
        ) from error


def check_limits(path: Path, *, files: int = 1, total: int) -> None:
    """Check number and bytes of the files of a model. Raises ``WeightsError``."""
    if files > MOST_FILES:
        raise WeightsError(f"{path} has more than {MOST_FILES} files and folders; give the model alone")
    if total >= MOST_BYTES:
        raise WeightsError(f"{path} has {MOST_BYTES / (1 << 30):g} GiB or more; give the model alone")


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    check_limits(path, files=len(members), total=total)
    packed = sum(member.compress_size for member in members)
    if total > max(_RATIO_FROM, _COMPRESSED_TO * packed):
        raise WeightsError(f"{path} inflates {packed} bytes to {total}: it is refused as a bomb")
    for member in members:
        _check_name(path, member)
    _check_distinct(path, members)


def _check_name(path: Path, member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename)
    about = f"{path}: member {member.filename[:_LONGEST_NAME]!r}"
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or not name.parts:
        raise WeightsError(f"{about} leads out of the model; it is refused")
    if max(map(len, map(str.encode, name.parts))) > _LONGEST_NAME:
        raise WeightsError(f"{about} has a name of more than {_LONGEST_NAME} bytes; it is refused")
    _check_levels(path, name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise WeightsError(f"{about} is a link or device; it is refused")
    if member.compress_type not in _METHODS or member.flag_bits & 1:
        raise WeightsError(f"{about} is encrypted, or compressed by another method than deflate; pack it again")


def _check_distinct(path: Path, members: list[zipfile.ZipInfo]) -> None:
    kinds: dict[PurePosixPath, bool] = {}
    """Name, and whether it is a file; the folders above a member need no entry of their own."""
    for member in members:
        name = PurePosixPath(member.filename)
        if name in kinds and (kinds[name] or not member.is_dir()):
            raise WeightsError(f"{path} has two members {str(name)!r}; it is refused")
        kinds[name] = not member.is_dir()
        for folder in name.parents:
            if kinds.setdefault(folder, False):
                raise WeightsError(f"{path}: {str(folder)!r} is a file and a folder; it is refused")


def _check_levels(path: Path, name: PurePosixPath | Path) -> None:
    if len(name.parts) > _MOST_LEVELS:
        raise WeightsError(f"{path} has more than {_MOST_LEVELS} levels of folders; give the model alone")


class _ShortReads(io.BufferedReader):
    """A zip file whose directory cannot be longer than the limit: ``zipfile`` reads it at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size > DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has more than {DIRECTORY_BYTES >> 20} MiB")
        return super().read(size)
