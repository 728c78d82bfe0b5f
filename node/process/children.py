"""Child processes that inherit descriptors and do not outlive their parent."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess

PR_SET_PDEATHSIG = 1
"""prctl(2)."""
_INHERITED, _SUPERVISOR = "AINODE_INHERITED", "AINODE_SUPERVISOR"
"""Set by the supervisor for its processes: numbers of the inherited descriptors, and its process ID."""


def descriptor_environment(descriptors: tuple[int, ...]) -> dict[str, str]:
    """Return the environment of a process that inherits these descriptors from this one, its supervisor."""
    return {_INHERITED: ",".join(map(str, descriptors)), _SUPERVISOR: str(os.getpid())}


def inherited_descriptors() -> tuple[int, ...] | None:
    """Return the descriptors that the supervisor handed down; ``None`` without a supervisor."""
    numbers = os.environ.pop(_INHERITED, None)
    return None if numbers is None else tuple(int(number) for number in numbers.split(",") if number)


def die_with_parent(number: signal.Signals) -> None:
    """Have the kernel send this process the signal ``number`` when its parent ends, however it ends.

    A supervisor that has ended before this call is noticed too: nobody would stop this process, and none take its port.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
    supervisor = os.environ.pop(_SUPERVISOR, None)
    if supervisor is not None and os.getppid() != int(supervisor):
        signal.raise_signal(number)


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
