"""A process and its parent: saying ready and alive (sd_notify), not outliving the parent, a port for a child."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket

PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def notify(*assignments: str) -> None:
    """Send ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1`` or ``STATUS=...`` to ``$NOTIFY_SOCKET``; nothing without it.

    Source: sd_notify(3). A name that begins with ``@`` is in the abstract namespace.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto("\n".join(assignments).encode(), address)


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to send us signal ``number`` when our parent ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))


def bound_to_us(signal_name: str) -> list[str]:
    """Words before a command that make it end when we end, however that happens; empty where setpriv is missing."""
    return ["setpriv", "--pdeathsig", signal_name] if shutil.which("setpriv") else []


def free_port() -> int:
    """A TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
