"""Files that this process and all that it starts may open, by Landlock (landlock(7), Linux 5.13); needs no privilege.

What is not named cannot be read, written, listed, made or removed any more. From Linux 6.12 on no process outside can
be signalled either, nor a socket of the abstract namespace be reached. Files that were open before stay open. Modes,
owners and times of files are not governed by it: see ``node.isolation.system_call_filter``.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from node.errors import PlatformError
from node.isolation.system_call_filter import renounce_privileges

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls, the same on every architecture."""
_ASK_VERSION, _PATH_BENEATH = 1, 1
EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE_FOLDER, _MAKE_FILE = (1 << 4) | (1 << 5), 1 << 7, 1 << 8
_MOVE, _TRUNCATE, _DEVICE = 1 << 13, 1 << 14, 1 << 15
"""LANDLOCK_ACCESS_FS_REFER, _TRUNCATE, _IOCTL_DEV: known from ABI 2, 3 and 5 on."""
_RIGHTS_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
SIGNALS_ABI = 6
"""From this version of Landlock on signals and sockets of the abstract namespace are governed as well."""
_SCOPED = 0b11
"""Both of them."""
_OF_FILES = EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE
"""Rights that a rule for something other than a folder may give."""

READ = EXECUTE | _READ | _LIST
"""Read, list and execute."""
LIST = _LIST
"""See the names in a folder and below it, not the contents."""
WRITE = READ & ~EXECUTE | _WRITE | _TRUNCATE | _REMOVE | _MAKE_FOLDER | _MAKE_FILE | _MOVE
"""Read, and make, change, move and remove files and folders: no links, sockets, pipes or devices."""
DEVICE = _READ | _LIST | _WRITE | _DEVICE
"""Read, write, and what ioctl(2) offers."""


def abi() -> int:
    """Version of Landlock in this kernel; 0 when it has none, or it is switched off."""
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


def confine(rules: Iterable[tuple[Path, int]]) -> int:
    """From now on only the paths of ``rules``, and what is below them, can be opened; there is no way back.

    A path that does not exist gives no right. Returns ``abi()``: with 0 nothing was confined. Only the thread that
    calls it, and those that it starts afterwards. Raises ``PlatformError`` when the kernel refuses.
    """
    version = abi()
    if version == 0:
        return 0
    known = _RIGHTS_OF_ABI[min(version, max(_RIGHTS_OF_ABI))]
    words = (known, 0, _SCOPED) if version >= SIGNALS_ABI else (known,)
    attributes = struct.pack(f"={len(words)}Q", *words)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & known)
        renounce_privileges()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with suppress(FileNotFoundError, PermissionError):  # what we cannot reach ourselves needs no rule
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _OF_FILES
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
        finally:
            os.close(descriptor)


def _call(number: int, *arguments: int | bytes) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(number, *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))
    if result < 0:
        why = os.strerror(ctypes.get_errno())
        raise PlatformError(f"pipelines see only their own files, which this kernel refuses ({why}); allow Landlock")
    return result
