"""No network for this process and all that it starts, by a seccomp filter (seccomp(2)); needs no privilege.

What is refused is the making of sockets other than those of the Unix domain, io_uring (which makes sockets past this
filter) and the ways into other processes of the same user. Sockets that were open before stay open.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from socket import AF_UNIX

from node.errors import PlatformError

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
"""prctl(2)."""
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
"""Classic BPF: ld [k], jeq #k, jge #k, ret #k."""
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in struct seccomp_data; both architectures are little endian."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_X32 = 0x40000000
"""From here on a system call of x86-64 is one of the x32 ABI, with numbers of its own."""
_CALLS = {  # AUDIT_ARCH, socket, and those refused altogether: io_uring_setup, ptrace, process_vm_writev, pidfd_getfd
    "x86_64": (0xC000003E, 41, (425, 101, 311, 438)),
    "aarch64": (0xC00000B7, 198, (425, 117, 271, 438)),
}
"""linux/audit.h and the tables of system calls."""


class _Program(ctypes.Structure):
    """The kernel's ``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def cut_off_network() -> None:
    """From now on ``socket`` and ``connect`` to any host fail with EACCES; there is no way back.

    Raises ``PlatformError`` where the kernel cannot promise that.
    """
    machine = platform.machine()
    if machine not in _CALLS:
        raise PlatformError(f"pipelines run without network, which is not known for {machine}; use x86-64 or aarch64")
    code = b"".join(_instructions(machine))
    program = _Program(len(code) // 8, code)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if prctl(*arguments) != 0:
            why = os.strerror(ctypes.get_errno())
            raise PlatformError(f"pipelines run without network, which this kernel refuses ({why}); allow seccomp")


def _instructions(machine: str) -> Iterator[bytes]:
    """Every test that finds something to refuse answers at once, so that no jump is longer than one instruction."""
    architecture, socket_call, refused = _CALLS[machine]
    yield _step(_LOAD, _ARCHITECTURE)
    yield _step(_JUMP_IF_EQUAL, architecture, yes=1)
    yield _step(_RETURN, _REFUSE)
    yield _step(_LOAD, _NUMBER)
    yield _step(_JUMP_IF_AT_LEAST, _X32, no=1)
    yield _step(_RETURN, _REFUSE)
    for call in refused:
        yield _step(_JUMP_IF_EQUAL, call, no=1)
        yield _step(_RETURN, _REFUSE)
    yield _step(_JUMP_IF_EQUAL, socket_call, yes=1)
    yield _step(_RETURN, _ALLOW)
    yield _step(_LOAD, _FIRST_ARGUMENT)
    yield _step(_JUMP_IF_EQUAL, AF_UNIX, no=1)
    yield _step(_RETURN, _ALLOW)
    yield _step(_RETURN, _REFUSE)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One ``struct sock_filter``; ``yes`` and ``no``: instructions to skip."""
    return struct.pack("=HBBI", code, yes, no, value)
