"""A process that ends with everything it started: also what left its group, its session and its parent (daemons).

Its subreaper, a process between it and its parent, is the one to which the kernel gives the orphans (prctl(2),
PR_SET_CHILD_SUBREAPER), whatever they do. The kept process cannot reach it when it is confined. In a namespace of
processes the subreaper is process 1, with whose end the kernel ends all others.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from node.process.children import die_with_parent
from node.process.control_group import ControlGroup

END = signal.SIGUSR1
"""Tells the subreaper to end everything, and itself. Sent by the kernel when the parent dies."""
_PR_SET_CHILD_SUBREAPER = 36
"""prctl(2)."""
_SIGNALLED = 128
"""Plus the number of a signal: the exit status of a process that a signal has ended, as in a shell."""


def fork_below(parent: int | None, release: Callable[[], None], group: ControlGroup | None = None) -> None:
    """Return in a new process; this one becomes its subreaper, never returns, and ends as the new one ended.

    ``parent``: process with whose end both end; its thread that started this process must live as long. ``None``: a
    process that cannot be seen from here. ``release``: closes in the subreaper what only the new process may hold open.
    ``group``: the new process joins it, and it ends with the new process. Call it before there are threads.
    """
    signals = {END, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    die_with_parent(END)
    if parent is not None and os.getppid() != parent:
        os._exit(0)  # it died before the line above
    here, there = os.pipe()  # closed by the end of the subreaper
    child = os.fork()
    if child == 0:
        os.close(there)
        die_with_parent(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        if select.select([here], [], [], 0)[0]:
            os._exit(0)
        os.close(here)
        if group is not None:
            group.join()
        return
    os.close(here)
    release()
    exitcode = _wait(child, signals)
    if group is not None:
        group.end()
    _end_as(exitcode)


def _wait(kept: int, signals: set[signal.Signals]) -> int:
    """Return the exit code of the kept process once everything that it started is gone too."""
    status = None
    while status is None and signal.sigwait(signals) != END:
        status = _reap(kept, os.WNOHANG)
    with suppress(ProcessLookupError):
        if status is None:
            os.kill(kept, signal.SIGKILL)
            status = _reap(kept, 0)
    # Whoever loses its parent now becomes our child: this ends when there is nobody left.
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while children.exists() and (orphans := children.read_text().split()):
        for orphan in orphans:
            os.kill(int(orphan), signal.SIGKILL)
            os.waitpid(int(orphan), 0)
    exitcode = os.waitstatus_to_exitcode(status or 0)
    return _SIGNALLED - exitcode if exitcode > _SIGNALLED else exitcode


def _reap(kept: int, options: int) -> int | None:
    """Take children that have ended off the kernel's hands; return the status of the kept one when it is among them."""
    status = None
    with suppress(ChildProcessError):
        while status is None:
            ended, code = os.waitpid(-1, options)
            if ended == 0:
                break
            if ended == kept:
                status = code
    return status


def _end_as(exitcode: int) -> None:
    if exitcode < 0 and os.getpid() == 1:  # no signal of its own ends it
        os._exit(_SIGNALLED - exitcode)
    if exitcode < 0:
        number = signal.Signals(-exitcode)
        with suppress(OSError):  # SIGKILL has no other action
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(exitcode)
