"""A thread whose file locks do not work: the kernel answers ``flock`` for it as some network file systems do."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

_Answer = TypeVar("_Answer")

_FLOCK = {"x86_64": 73, "aarch64": 32}
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _IS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

NO_LOCKS = errno.ENOLCK
"""The file system has none."""
EVERYBODY_LOCKS = 0
"""Every process gets every lock, because none sees those of the others."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class ThreadWithoutLocks:
    """Runs functions in one thread, with a filter of system calls that the threads it starts inherit."""

    def __init__(self, answer: int) -> None:
        """``answer``: ``NO_LOCKS`` or ``EVERYBODY_LOCKS``."""
        self._threads = ThreadPoolExecutor(1, "without-locks", initializer=_filter, initargs=(answer,))
        assert self.run(_lock_twice) == ("granted twice" if answer == EVERYBODY_LOCKS else "refused")

    def run(self, function: Callable[[], _Answer]) -> _Answer:
        return self._threads.submit(function).result()


def _filter(answer: int) -> None:
    steps = b"".join(
        struct.pack("HBBI", *step)
        for step in (
            (_LOAD, 0, 0, 0),
            (_IS_EQUAL, 0, 1, _FLOCK[platform.machine()]),
            (_RETURN, 0, 0, _ERRNO | answer),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(steps) // 8, steps)
    for arguments in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SECCOMP, _FILTER, ctypes.byref(program))):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "no filter of system calls")


def _lock_twice() -> str:
    """What the kernel does with a lock that another open file holds."""
    with tempfile.NamedTemporaryFile() as first, Path(first.name).open("rb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return "refused" if error.errno == errno.ENOLCK else os.strerror(error.errno or 0)
        return "granted twice"
