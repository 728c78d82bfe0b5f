"""Time and memory of one reading: beyond either it is a finding."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPU_SECONDS = 4.0
"""Of this process, with the instrumentation of the fuzzer. Wall time says nothing on a busy machine."""
MEMORY_BYTES = 1 << 30
"""Address space beyond what the process has before."""


class TooSlow(BaseException):
    """The reading took more than ``CPU_SECONDS``."""


@contextmanager
def limited_memory() -> Iterator[None]:
    """Within it, more than ``MEMORY_BYTES`` cannot be allocated: ``MemoryError``."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def limited_time() -> Iterator[None]:
    """Within it, more than ``CPU_SECONDS`` raise ``TooSlow``; in the main thread only."""
    before = signal.signal(signal.SIGPROF, _end)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _end(*_: object) -> None:
    raise TooSlow(f"more than {CPU_SECONDS} s of computing")
