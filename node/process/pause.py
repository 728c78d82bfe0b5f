"""Pausing what a process has started: it keeps its memory and what it has computed, and gets no processor time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_START_TIME = 19
"""Position in ``/proc/PID/stat`` after the name: when the process was started (proc_pid_stat(5), field 22)."""

_MOST_SEARCHES = 50
"""For what is started meanwhile. Processes that start the next and end at once would never all be found."""


def started_at(pid: int) -> float:
    """When a process was started, which tells it from a later one with the same number; 0 when it has ended."""
    with suppress(OSError):
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START_TIME])
    return 0.0


def pause(pid: int, started: float) -> None:
    """Stop everything that a process has started, but not itself, so that it can end them (``subreaper``).

    Nothing happens when the process that began at ``started`` has ended.
    """
    stopped: set[int] = set()
    for _ in range(_MOST_SEARCHES):  # whoever is stopped starts no other
        if not started or started_at(pid) != started or not (new := set(_descendants(pid)) - stopped):
            return
        _signal(new, signal.SIGSTOP)
        stopped |= new


def resume(pid: int, started: float) -> None:
    """Have everything that a process has started go on."""
    if started and started_at(pid) == started:
        _signal(set(_descendants(pid)), signal.SIGCONT)


def _descendants(pid: int) -> Iterator[int]:
    """All of them, however long the chain of processes is of which each has started the next."""
    waiting = [pid]
    while waiting:
        with suppress(OSError):
            for thread in Path(f"/proc/{waiting.pop()}/task").iterdir():
                with suppress(OSError):
                    children = [int(child) for child in (thread / "children").read_text().split()]
                    waiting += children
                    yield from children


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
