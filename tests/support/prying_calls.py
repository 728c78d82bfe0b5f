"""System calls by which a hostile model would reach processes and objects outside of its own. They change nothing."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.PyDLL(None, use_errno=True)
"""It keeps the interpreter locked: a clone of a process with several threads has nobody else who could unlock it."""
_NUMBERS = {
    "x86_64": {"add_key": 248, "keyctl": 250, "io_setup": 206, "ioprio_set": 251, "clone": 56, "kcmp": 312},
    "aarch64": {"add_key": 217, "keyctl": 219, "io_setup": 0, "ioprio_set": 30, "clone": 220, "kcmp": 272},
}[platform.machine()]
_NEW_USER = 0x10000000
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS, FS_IOC_SETFLAGS."""


def attempts(own: Path, parent: int) -> dict[str, Callable[[], object]]:
    """``own``: an image of the model's input; ``parent``: a process of the same user."""
    return {
        "take its parent's open files away": lambda: _limit(parent),
        "lower its parent's priority": lambda: os.setpriority(
            os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)
        ),
        "pin its parent to one core": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
        "make its parent idle": lambda: os.sched_setscheduler(parent, os.SCHED_OTHER, os.sched_param(0)),
        "starve its parent's disk": lambda: _system_call("ioprio_set", 1, parent, 4 | 2 << 13),
        "compare itself with its parent": lambda: _system_call("kcmp", parent, parent, 0, 0, 0),
        "leave a key": lambda: _system_call("add_key", b"user", b"ainode", b"x", 1, -2),
        "read the keyring of its user": lambda: _system_call("keyctl", 0, -4, 1),
        "leave shared memory": lambda: _removed("shmget", "shmctl", 4096),
        "leave semaphores": lambda: _removed("semget", "semctl", 1),
        "leave a message queue": lambda: _check(_LIBC.msgctl(_check(_LIBC.msgget(0, 0o600)), 0, 0)),
        "open a message queue of POSIX": _queue,
        "watch files": lambda: os.close(_check(_LIBC.inotify_init1(0))),
        "take asynchronous reads": lambda: _system_call("io_setup", 1, ctypes.byref(ctypes.c_ulong())),
        "change the times of its input": lambda: os.utime(own, ns=(own.stat().st_atime_ns, own.stat().st_mtime_ns)),
        "lease its input": lambda: _lease(own),
        "change the flags of its input": lambda: _flags(own),
        "leave its namespaces": lambda: _in_a_child(lambda: _check(_LIBC.unshare(_NEW_USER))),
        "start a process in a namespace": lambda: _in_a_child(_clone),
    }


def _limit(process: int) -> None:
    resource.prlimit(process, resource.RLIMIT_NOFILE, resource.prlimit(process, resource.RLIMIT_NOFILE))


def _check(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _system_call(name: str, *arguments: object) -> int:
    return _check(_LIBC.syscall(_NUMBERS[name], *arguments))


def _removed(get: str, control: str, size: int) -> None:
    identifier = _check(getattr(_LIBC, get)(0, size, 0o600))
    _check(getattr(_LIBC, control)(identifier, 0, 0))


def _queue() -> None:
    name = f"/ainode-{os.getpid()}".encode()
    os.close(_check(_LIBC.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)))
    _check(_LIBC.mq_unlink(name))


def _lease(path: Path) -> None:
    with path.open("rb") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _flags(path: Path) -> None:
    with path.open("rb") as file:
        fcntl.ioctl(file, _SETFLAGS, fcntl.ioctl(file, _GETFLAGS, bytes(8)))


def _in_a_child(attempt: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError as error:
            os._exit(error.errno or errno.EIO)
        os._exit(0)
    _ended(child)


def _clone() -> None:
    """Only where no other thread runs: the new process has this one's lock of the interpreter, and waits for a thread
    that asked for it but is not in the new process.
    """
    child = _system_call("clone", _NEW_USER | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    _ended(child)


def _ended(child: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))
