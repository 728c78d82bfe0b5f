"""Arrays in an ``.npz`` file of a hostile writer: every size is checked before memory is given to it."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from node.errors import InputError
from node.studies.bounded_file import BoundedFile

_MOST_MEMBERS = 20_000
_DIRECTORY_BYTES = 4 << 20
_END, _LOCATOR, _END_64 = 22, 20, 56
"""Bytes of the records at the end of a zip file without a comment (APPNOTE 4.3.14 to 4.3.16)."""
_PLAIN = "biuf"
"""Kinds of dtypes: numbers, which hold no object and no field."""


@contextmanager
def arrays_in(path: Path, *, most_bytes: int, most_elements: int) -> Iterator[Mapping[str, np.ndarray[Any, Any]]]:
    """Open the file; arrays are read when they are looked up.

    ``most_bytes``: of the file, ``most_elements``: of one array. Raises ``InputError`` when there is more, when members
    are compressed or overlap, or when an array is anything but plain numbers of the declared shape.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with BoundedFile(descriptor) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_size > most_bytes:
            raise InputError(f"{path}: has {state.st_size} bytes, at most {most_bytes} are read")
        _check_end(file, state.st_size)
        with zipfile.ZipFile(file) as archive:
            _check_members(archive, state.st_size)
            for name in archive.namelist():
                _check_array(archive, name, most_elements)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays


def _check_end(file: IO[bytes], size: int) -> None:
    """Check number of members and bytes of the directory, before ``zipfile`` makes an object of each."""
    file.seek(max(0, size - _END - _LOCATOR - _END_64))
    tail = file.read().rjust(_END + _LOCATOR + _END_64, b"\0")
    record, locator, end = tail[:_END_64], tail[_END_64:-_END], tail[-_END:]
    if not end.startswith(b"PK\5\6"):
        raise InputError("the file does not end like one that was written whole")
    members, directory = struct.unpack_from("<HL", end, 10)
    if locator.startswith(b"PK\6\7"):
        (place,) = struct.unpack_from("<Q", locator, 8)
        if place != size - len(tail) or not record.startswith(b"PK\6\6"):
            raise InputError("the end of the file contradicts itself")
        members, directory = struct.unpack_from("<QQ", record, 32)
    if members > _MOST_MEMBERS or directory > _DIRECTORY_BYTES:
        raise InputError(f"the file has {members} members, at most {_MOST_MEMBERS} are read")
    file.seek(0)


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if any(
        member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size for member in members
    ):
        raise InputError("the file has compressed members")
    if sum(member.file_size for member in members) > size or len({member.filename for member in members}) < len(
        members
    ):
        raise InputError("members of the file overlap")


def _check_array(archive: zipfile.ZipFile, name: str, most_elements: int) -> None:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_head(member)
        content = archive.getinfo(name).file_size - member.tell()
    if dtype.kind not in _PLAIN or min(shape, default=0) < 0:
        raise InputError(f"{name}: is {dtype}, not numbers")
    if prod(shape) > most_elements or prod(shape) * dtype.itemsize != content:
        raise InputError(f"{name}: declares {shape} of {dtype}, at most {most_elements} and what it holds are read")
