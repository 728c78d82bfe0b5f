"""A numeric user of its own for a process of root, as the node has it in containers."""

from __future__ import annotations

import ctypes
import os
import struct
import zlib
from collections.abc import Collection
from pathlib import Path

from node.isolation.libc import call

_FIRST_USER, _USERS = 60600, 512
"""Numbers that no system gives to anybody (systemd: UIDs and GIDs)."""
_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, _KILL, _SETGID, _SETUID = (1 << number for number in (0, 1, 2, 5, 6, 7))
"""Capabilities (capabilities(7))."""
_VERSION = 0x20080522
_SET_KEEPCAPS, _SET_DUMPABLE, _CAP_AMBIENT, _RAISE = 8, 4, 47, 2
"""prctl(2)."""


def can_change_user() -> bool:
    """Whether this process may become another user, and afterwards end and remove what that user leaves."""
    needed = _CHOWN | DAC_OVERRIDE | _KILL | _SETGID | _SETUID
    return os.geteuid() == 0 and capabilities() & needed == needed


def own_user(folder: Path) -> int:
    """Return the number of the user to whom this folder belongs, always the same."""
    return _FIRST_USER + zlib.crc32(os.fsencode(folder)) % _USERS


def become(user: int, groups: Collection[int]) -> None:
    """Become ``user``, for good, with these groups besides its own. Raises ``OSError``.

    It reads what it is shown, whoever owns that.
    """
    reading = DAC_READ_SEARCH if capabilities() & DAC_READ_SEARCH else DAC_OVERRIDE
    os.setgroups(sorted(groups))
    os.setresgid(user, user, user)
    call("prctl", _SET_KEEPCAPS, 1, 0, 0, 0)
    os.setresuid(user, user, user)
    set_capabilities(reading, inherited=True)
    call("prctl", _CAP_AMBIENT, _RAISE, reading.bit_length() - 1, 0, 0)
    call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)  # else its own files in /proc belong to root


def capabilities() -> int:
    """Return the permitted capabilities of this process."""
    words = ctypes.create_string_buffer(24)
    call("capget", struct.pack("=Ii", _VERSION, 0), words)
    _, permitted, _, _, more, _ = struct.unpack("=6I", words.raw)
    return int(permitted | more << 32)


def set_capabilities(remaining: int, *, inherited: bool = False) -> None:
    """Drop all capabilities but ``remaining``; what it starts gets none, or with ``inherited`` the same."""
    low, high = remaining & 0xFFFFFFFF, remaining >> 32
    passed = (low, high) if inherited else (0, 0)
    call("capset", struct.pack("=Ii", _VERSION, 0), struct.pack("=6I", low, low, passed[0], high, high, passed[1]))
