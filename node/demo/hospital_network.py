"""A network of its own for the machines of the demonstration: a bridge in a network namespace, and cables to it.

Nothing outside sees it, and it disappears with the last process in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from node.errors import PlatformError
from node.isolation.libc import call

PREFIX = "192.0.2"
"""Of all addresses (RFC 5737: never routed)."""
HERE = f"{PREFIX}.1"
"""Address of the program that has made the network; database, PACS and scanner have it, too."""
PROGRAMS = ("ip", "unshare", "nsenter", "setpriv")
_BRIDGE = "hospital"
_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET (linux/sched.h)."""


def check_rights() -> None:
    """Raise ``PlatformError`` where machines cannot be made."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise PlatformError(
            f"machines are network namespaces, and {', '.join(missing)} is not installed; install it (Debian packages "
            "iproute2 and util-linux)"
        )
    if os.geteuid() != 0:
        raise PlatformError("machines are network namespaces, which need root; run it with sudo, or without --machines")
    command = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"]
    probe = subprocess.run(command, capture_output=True, check=False)
    if probe.returncode:
        raise PlatformError(
            f"the kernel allows no namespaces here ({probe.stderr.decode(errors='replace').strip()}); in a container "
            "they need the capability SYS_ADMIN"
        )


@contextmanager
def hospital_network() -> Iterator[None]:
    """Put this thread, and the threads and processes that it starts, into an empty network with a bridge.

    Raises ``PlatformError`` where this is not possible.
    """
    check_rights()
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("unshare", _NEW_NETWORK)
        try:
            ip("link", "set", "lo", "up")
            ip("link", "add", _BRIDGE, "type", "bridge")
            ip("address", "add", f"{HERE}/24", "dev", _BRIDGE)
            ip("link", "set", _BRIDGE, "up")
            yield
        finally:
            call("setns", before, _NEW_NETWORK)
    finally:
        os.close(before)


def connect(name: str, number: int, pid: int) -> str:
    """Lay a cable from the bridge to the network of process ``pid``, as its ``eth0``; return its address there.

    ``name``: of the end at the bridge. A machine keeps its hardware address when it is switched on again: the others
    need not notice that it was away.
    """
    address, hardware = f"{PREFIX}.{10 + number}", f"02:00:00:00:00:{number:02x}"
    peer = ("type", "veth", "peer", "name", "eth0", "address", hardware, "netns", str(pid))
    ip("link", "add", "name", name, *peer)
    ip("link", "set", "dev", name, "master", _BRIDGE, "up")
    within = ("nsenter", "--net", "--target", str(pid))
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "address", "add", f"{address}/24", "dev", "eth0"),
        ("ip", "link", "set", "eth0", "up"),
    ):
        _run(*within, *command)
    return address


def plug(name: str, *, connected: bool) -> None:
    """Pull the cable of a machine out of the bridge, or put it back: packets vanish, and nobody is told."""
    ip("link", "set", "dev", name, *(["master", _BRIDGE] if connected else ["nomaster"]))


def remove(name: str) -> None:
    """Remove the cable of a machine, if there is one."""
    if subprocess.run(["ip", "link", "show", "dev", name], capture_output=True, check=False).returncode == 0:
        ip("link", "delete", "dev", name)


def ip(*arguments: str) -> None:
    """Run iproute2 in the network of this thread. Raises ``PlatformError`` when it fails."""
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlatformError(f"{' '.join(command)} failed: {done.stderr.strip()}")
