"""Child processes: they do not outlive their parent, and import nothing from its working directory."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess

PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
"""prctl(2)."""


def die_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Have the kernel send this process the signal ``number`` when its parent ends, however it ends.

    A ``parent`` that has ended before this call is noticed too: nobody would stop this process, and none take its port.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
    if parent is not None and os.getppid() != parent:
        signal.raise_signal(number)


def name_process(name: str) -> None:
    """Name this process for ps(1) and top(1), which show at most 15 characters."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, name.encode())


def leave_signals_to_parent() -> None:
    """Let the parent decide when this process ends: Ctrl-C and a stopping service manager signal all."""
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def bound_to_parent(signal_name: str) -> list[str]:
    """Return a command prefix that ends a child with its parent, however that ends; empty without setpriv."""
    return ["setpriv", "--pdeathsig", signal_name] if shutil.which("setpriv") else []


def terminate(process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Terminate a child process, and kill it after ``seconds``."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
