"""Leaves this process and its children only the system calls of a list (seccomp(2)): no network, no other process.

It needs no privilege. ``node.isolation.allowed_system_calls`` lists the calls. Sockets that were open before stay
open, and a pair of connected ones can still be made: pipes of multiprocessing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from node.errors import PlatformError
from node.isolation.allowed_system_calls import ABSENT, ALLOWED_ONLY, LATEST, REFUSED_WHEN, Argument, allowed_calls
from node.isolation.own_user import DAC_OVERRIDE, DAC_READ_SEARCH, capabilities, set_capabilities

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
"""prctl(2)."""
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
"""Classic BPF: ld [k], and #k, jeq #k, jge #k, ret #k."""
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data; both architectures are little endian."""
_ALLOW, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x00050000 | errno.EACCES, 0x00050000 | errno.ENOSYS
_X32 = 0x40000000
"""From here on a system call of x86-64 is one of the x32 ABI, with numbers of its own."""
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of linux/audit.h; in the order of ``call_rules.Numbers``."""


class _Program(ctypes.Structure):
    """The kernel's ``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def refuse_calls() -> None:
    """Make all other calls fail from now on, irrevocably, and drop all capabilities of root but one.

    Raises ``PlatformError`` where the kernel cannot promise that.
    """
    machine = platform.machine()
    if machine not in _AUDIT:
        raise PlatformError(f"pipelines run without network, which is not known for {machine}; use x86-64 or aarch64")
    _drop_capabilities()
    code = b"".join(_instructions(machine))
    program = _Program(len(code) // 8, code)
    renounce_privileges()
    _control(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


def renounce_privileges() -> None:
    """No started program gains privileges; the kernel requires this before an unprivileged process adds a filter."""
    _control(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _control(*arguments: Any) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(*arguments) != 0:
        why = os.strerror(ctypes.get_errno())
        raise PlatformError(f"pipelines run without network, which this kernel refuses ({why}); allow seccomp")


def _drop_capabilities() -> None:
    """Keep only what lets root in a container read files that are not its own, as far as Landlock lets it."""
    permitted = capabilities()
    reading = DAC_OVERRIDE if os.geteuid() == 0 else DAC_OVERRIDE | DAC_READ_SEARCH
    if not permitted & ~reading:
        return  # systemd's filter lets a service not even ask
    try:
        set_capabilities(permitted & reading)
    except OSError as error:
        raise PlatformError(f"pipelines run without capabilities: {error.strerror}") from None


def _instructions(machine: str) -> Iterator[bytes]:
    """Every test that decides answers at once, so that a jump leads at most to the next call."""
    column = list(_AUDIT).index(machine)
    yield _step(_LOAD, _ARCHITECTURE)
    yield _step(_JUMP_IF_EQUAL, _AUDIT[machine], yes=1)
    yield _step(_RETURN, _REFUSE)
    yield _step(_LOAD, _NUMBER)
    yield _step(_JUMP_IF_AT_LEAST, _X32, no=1)
    yield _step(_RETURN, _REFUSE)
    for numbers in ABSENT.values():
        yield from _when(numbers[column], [_step(_RETURN, _UNKNOWN)])
    for rules, refused_if in ((ALLOWED_ONLY, False), (REFUSED_WHEN, True)):
        for numbers, tests in rules.values():
            yield from _when(numbers[column], [*_refuse(tests, when=refused_if), _step(_RETURN, _ALLOW)])
    for first, last in _ranges(n for numbers in allowed_calls().values() if (n := numbers[column]) is not None):
        yield _step(_JUMP_IF_AT_LEAST, last + 1, yes=2)
        yield _step(_JUMP_IF_AT_LEAST, first, no=1)
        yield _step(_RETURN, _ALLOW)
    yield _step(_JUMP_IF_AT_LEAST, LATEST + 1, no=1)
    yield _step(_RETURN, _UNKNOWN)
    yield _step(_RETURN, _REFUSE)


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of the numbers that follow one another, in order."""
    for _, steps in groupby(enumerate(sorted(numbers)), key=lambda step: step[1] - step[0]):
        group = [number for _, number in steps]
        yield group[0], group[-1]


def _when(number: int | None, answer: list[bytes]) -> Iterator[bytes]:
    """``answer``, which ends with a return, for one system call."""
    if number is not None:
        yield _step(_JUMP_IF_EQUAL, number, no=len(answer))
        yield from answer


def _refuse(tests: Iterable[Argument], *, when: bool) -> Iterator[bytes]:
    """Refuse the call when the result of one of the tests is ``when``."""
    for test in tests:
        yield _step(_LOAD, _ARGUMENTS + 8 * test.index)
        yield _step(_AND, test.mask)
        yield _step(_JUMP_IF_EQUAL, test.value, yes=int(not when), no=int(when))
        yield _step(_RETURN, _REFUSE)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One ``struct sock_filter``; ``yes`` and ``no``: instructions to skip."""
    return struct.pack("=HBBI", code, yes, no, value)
