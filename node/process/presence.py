"""Whether a process is there, for those who know its id from the ledger."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def process_exists(pid: int) -> bool:
    """Also of processes that this user may not see."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def process_space() -> str:
    """The process-id space of this machine since it was started: containers may share a name, boots share ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{host_name()}/{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


def host_name() -> str:
    """Return the name of this machine, with which its process-id space begins."""
    return platform.node()
