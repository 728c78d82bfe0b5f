"""Blocks network and inter-process system calls of this process and its children with seccomp(2).

It needs no privilege. Refused are the making and connecting of sockets (a pair of connected ones is allowed: pipes of
multiprocessing), io_uring (which makes sockets past this filter), the ways into other processes of the same user, and
what Landlock does not govern: modes, owners and extended attributes of files. Sockets that were open before stay open.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from socket import SOCK_STREAM
from typing import Any

from node.errors import PlatformError

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
"""prctl(2)."""
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
"""Classic BPF: ld [k], and #k, jeq #k, jge #k, ret #k."""
_NUMBER, _ARCHITECTURE, _SECOND_ARGUMENT = 0, 4, 24
"""Offsets in struct seccomp_data; both architectures are little endian."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_CAPABILITY_VERSION, _DAC_OVERRIDE = 0x20080522, 1 << 1
"""capset(2), capabilities(7)."""
_X32 = 0x40000000
"""From here on a system call of x86-64 is one of the x32 ABI, with numbers of its own."""
_KIND_OF_SOCKET = 0xF
"""The rest of socket(2)'s second argument is flags."""


@dataclass(frozen=True)
class _Architecture:
    """Numbers of linux/audit.h and of the table of system calls."""

    audit: int
    socketpair: int
    refused: tuple[int, ...]


_EVERYWHERE = (425, 438, 452, 463, 466)
"""io_uring_setup, pidfd_getfd, fchmodat2, setxattrat, removexattrat."""
_ARCHITECTURES = {
    "x86_64": _Architecture(
        0xC000003E,
        53,
        (
            *(41, 42),  # socket, connect
            *(101, 310, 311),  # ptrace, process_vm_readv, process_vm_writev
            *(90, 91, 268),  # chmod, fchmod, fchmodat
            *(92, 93, 94, 260),  # chown, fchown, lchown, fchownat
            *(188, 189, 190, 197, 198, 199),  # setxattr and removexattr, with l and f
            *_EVERYWHERE,
        ),
    ),
    "aarch64": _Architecture(
        0xC00000B7,
        199,
        (
            *(198, 203),
            *(117, 270, 271),
            *(52, 53),  # fchmod, fchmodat
            *(54, 55),  # fchownat, fchown
            *(5, 6, 7, 14, 15, 16),
            *_EVERYWHERE,
        ),
    ),
}


class _Program(ctypes.Structure):
    """The kernel's ``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def refuse_calls() -> None:
    """From now on these calls fail with EACCES; there is no way back. What privileges root has are gone but one.

    Raises ``PlatformError`` where the kernel cannot promise that.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise PlatformError(f"pipelines run without network, which is not known for {machine}; use x86-64 or aarch64")
    _drop_capabilities()
    code = b"".join(_instructions(machine))
    program = _Program(len(code) // 8, code)
    renounce_privileges()
    _control(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


def renounce_privileges() -> None:
    """No program that is started gains privileges: what the kernel asks of who confines itself without any."""
    _control(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _control(*arguments: Any) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(*arguments) != 0:
        why = os.strerror(ctypes.get_errno())
        raise PlatformError(f"pipelines run without network, which this kernel refuses ({why}); allow seccomp")


def _drop_capabilities() -> None:
    """Of root in a container. It may still read files that are not its own, as far as Landlock lets it."""
    library = ctypes.CDLL(None, use_errno=True)
    header, words = struct.pack("=Ii", _CAPABILITY_VERSION, 0), ctypes.create_string_buffer(24)
    library.capget(header, words)
    effective, permitted, _, more_effective, more_permitted, _ = struct.unpack("=6I", words.raw)
    if not ((effective | permitted) & ~_DAC_OVERRIDE or more_effective or more_permitted):
        return  # systemd's filter lets a service not even ask
    remaining = struct.pack("=6I", effective & _DAC_OVERRIDE, permitted & _DAC_OVERRIDE, 0, 0, 0, 0)
    if library.capset(header, remaining) != 0:
        raise PlatformError(f"pipelines run without capabilities: {os.strerror(ctypes.get_errno())}")


def _instructions(machine: str) -> Iterator[bytes]:
    """Every test that finds something to refuse answers at once, so that no jump is longer than one instruction."""
    ours = _ARCHITECTURES[machine]
    yield _step(_LOAD, _ARCHITECTURE)
    yield _step(_JUMP_IF_EQUAL, ours.audit, yes=1)
    yield _step(_RETURN, _REFUSE)
    yield _step(_LOAD, _NUMBER)
    yield _step(_JUMP_IF_AT_LEAST, _X32, no=1)
    yield _step(_RETURN, _REFUSE)
    for call in ours.refused:
        yield _step(_JUMP_IF_EQUAL, call, no=1)
        yield _step(_RETURN, _REFUSE)
    yield _step(_JUMP_IF_EQUAL, ours.socketpair, yes=1)
    yield _step(_RETURN, _ALLOW)
    # Datagrams find their way to anybody's socket; what is connected stays so.
    yield _step(_LOAD, _SECOND_ARGUMENT)
    yield _step(_AND, _KIND_OF_SOCKET)
    yield _step(_JUMP_IF_EQUAL, SOCK_STREAM, no=1)
    yield _step(_RETURN, _ALLOW)
    yield _step(_RETURN, _REFUSE)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One ``struct sock_filter``; ``yes`` and ``no``: instructions to skip."""
    return struct.pack("=HBBI", code, yes, no, value)
