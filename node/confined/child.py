"""The confined process itself: it runs the functions that its parent names, one at a time, and replies with JSON.

It shares nothing with its parent but a socket. It can open the files of its rules only, and no network; it ends with
its parent (``node.process.subreaper``). This module imports little: limits are set before numpy loads.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from node.confined.bounds import Bounds
from node.confined.reply import error_line, result_line, send_line
from node.confined.sandbox import fork_sandboxed, shut_in
from node.errors import InputError, InternalError, NodeError, error_code
from node.isolation import programs
from node.isolation.files import DEVICE, LIST, READ
from node.process.left_out import leave_out_decoders
from node.process.memory import return_freed_memory

logger = logging.getLogger(__name__)

_RECYCLED_SHARE = 0.5
"""Of its address space: a process that holds more after a call ends, and the next call starts another."""
_OBJECTS = 10_000
"""New ones after which Python looks for garbage. At its own 700 a first encoding computes a quarter longer."""
_DEVICES = (Path("/dev/null"), Path("/dev/urandom"))


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """What the parent sends first."""

    bounds: Bounds
    rules: tuple[tuple[Path, int], ...]
    """Files, for ``node.isolation.confine``."""
    decodes: bool
    """Whether its functions may decode pixels."""


class Call(NamedTuple):
    """What the parent sends then."""

    about: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


def main() -> None:
    """Answer calls until the socket is closed: ``python -c ... DESCRIPTOR PARENT``."""
    gc.set_threshold(_OBJECTS)
    descriptor, parent = map(int, sys.argv[1:])
    calls = os.fdopen(os.dup(descriptor), "rb")
    confinement: Confinement = pickle.load(calls)  # noqa: S301 - from our parent
    if not confinement.decodes:
        leave_out_decoders()
    rules = (*_program_files(), *confinement.rules)
    sandbox = fork_sandboxed(parent, lambda: _close(descriptor, calls), rules)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # its warnings repeat values of the files
    warnings.simplefilter("ignore")
    return_freed_memory()
    if sandbox.shows_other_files:
        logger.warning("this process can read the files of its user: no Landlock, no namespaces; ask ainode doctor")
    shut_in(rules)
    memory = confinement.bounds.memory_mib << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with suppress(EOFError):
        while True:
            line, ends = _answer(pickle.load(calls), confinement.bounds)  # noqa: S301 - from our parent
            send_line(descriptor, line)
            if ends:
                return


def _close(descriptor: int, calls: BinaryIO) -> None:
    os.close(descriptor)
    calls.close()


def _program_files() -> Iterator[tuple[Path, int]]:
    """What any program must read: no device but two, no shared memory, no cache."""
    yield from ((path, rights) for path, rights in programs() if rights in (READ, LIST))
    yield from ((path, DEVICE) for path in _DEVICES)


def _answer(call: Call, bounds: Bounds) -> tuple[bytes, bool]:
    """Return the line of the reply, and whether this process ends after it."""
    _limit_computing(bounds.cpu_seconds)
    try:
        result = call.function(*call.arguments, **call.keywords)
        ends = _address_space() > _RECYCLED_SHARE * (bounds.memory_mib << 20)
        return result_line(call.function, result, ends=ends), ends
    except NodeError as error:
        return error_line(error_code(error), str(error), ends=False), False
    except MemoryError:
        reason = f"{call.about}: reading it needs more than {bounds.memory_mib} MiB of memory"
        return error_line(InputError.code, reason, ends=True), True
    except RecursionError:
        return error_line(InputError.code, f"{call.about}: is nested too deep to be read", ends=True), True
    except Exception as error:  # this process's own loop: the caller decides
        logger.exception("%s broke", call.function.__qualname__)
        return error_line(InternalError.code, f"{call.about}: {type(error).__name__}: {error}", ends=True), True


def _limit_computing(seconds: int) -> None:
    """Have the kernel end this process with SIGXCPU once the call has computed this long."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().partition(" ")[0]) * resource.getpagesize()
