"""Bounds of a confined process, and of one part of a call within it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from node.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one confined process may use."""

    memory_mib: int = 2048
    """Address space (RLIMIT_AS), with the program and its libraries."""
    cpu_seconds: int = 60
    """Computing time of one call: independent of what else the machine does."""
    wall_seconds: float = 600.0
    """Of one call; only a disk that does not answer takes longer than the computing."""
    reply_mib: int = 16
    """Of one call, as JSON."""


_SOON = 1e-3
"""Seconds: 0 would stop the timer."""


class _OutOfTime(BaseException):
    """Raised by the timer; no ``except Exception`` of a library catches it."""


@contextmanager
def bounded(subject: str, cpu_seconds: float) -> Iterator[None]:
    """Bound one part of a call, such as the reading of one file, so that the rest of the call goes on without it.

    Raises ``InputError`` naming ``subject`` and the bound for more than ``cpu_seconds`` of computing, for more memory
    than the process may have, and for deeper nesting than Python can follow. Calls may be nested: the one around ends
    when its own time is over. It does nothing about time outside the main thread, where Python handles no signals:
    confined processes compute in theirs.
    """
    timed = threading.current_thread() is threading.main_thread()
    if timed:
        before, began = signal.signal(signal.SIGPROF, _stop), time.process_time()
        around = signal.getitimer(signal.ITIMER_PROF)[0]
        signal.setitimer(signal.ITIMER_PROF, min(cpu_seconds, around or cpu_seconds))
    try:
        yield
    except _OutOfTime:
        if around and around <= cpu_seconds:
            raise  # the time of the call around this one is over
        raise InputError(f"{subject}: reading it took more than {cpu_seconds:g} s of computing") from None
    except MemoryError:
        raise InputError(f"{subject}: reading it needs more memory than a reading process may use") from None
    except RecursionError:
        raise InputError(f"{subject}: its sequences are nested too deep to be read") from None
    finally:
        if timed:
            rest = around and max(around - (time.process_time() - began), _SOON)
            signal.setitimer(signal.ITIMER_PROF, rest)
            signal.signal(signal.SIGPROF, before)


def _stop(_number: int, _frame: object) -> None:
    raise _OutOfTime
