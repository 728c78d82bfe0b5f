"""A process and its parent: what it is told and inherits, what it says (sd_notify), and not outliving it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request

PR_SET_PDEATHSIG = 1
"""prctl(2)."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
"""mallopt(3), malloc.h."""
_INHERITED = "AINODE_INHERITED"
"""Set by the supervisor for its processes: numbers of the descriptors it hands down."""


class Orders:
    """What a process is told by signals: SIGTERM and SIGINT end it soon, SIGUSR1 when all it has begun is done."""

    def __init__(self) -> None:
        self.end = threading.Event()
        """Begin nothing more; end when what has begun is finished."""
        self.hurry = threading.Event()
        """And do not wait for what takes long."""

    def obey(self) -> None:
        """Listen to the signals from now on. SIGHUP, which a terminal sends to all, is the supervisor's alone."""

        def soon(_number: int, _frame: object) -> None:
            self.hurry.set()
            self.end.set()

        signal.signal(signal.SIGTERM, soon)
        signal.signal(signal.SIGINT, soon)
        signal.signal(signal.SIGUSR1, lambda *_: self.end.set())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def heirs(descriptors: tuple[int, ...]) -> dict[str, str]:
    """Environment for a process that inherits these descriptors from its supervisor."""
    return {_INHERITED: ",".join(map(str, descriptors))}


def inherited() -> tuple[int, ...] | None:
    """The descriptors that a supervisor handed down to this process; ``None`` when it has no supervisor."""
    told = os.environ.pop(_INHERITED, None)
    return None if told is None else tuple(int(number) for number in told.split(",") if number)


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


def return_freed_memory() -> None:
    """Give memory that was freed back to the kernel at once, where the C library is glibc.

    By default one large block that is freed makes glibc keep all blocks up to its size from then on (mallopt(3),
    "dynamic mmap threshold"), in one of eight arenas for each core: a peer that sends one PDU of 16 MiB would leave
    a process larger for ever.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 17)
        library.mallopt(_M_ARENA_MAX, 2)


def keep_freed_memory() -> None:
    """Use memory that was freed again instead of asking the kernel anew, where the C library is glibc.

    A network frees and takes blocks of megabytes at every layer, and the kernel clears every page that it hands out:
    a quarter of the time of the denoiser. Blocks beyond 64 MiB (volumes) still go back at once.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 26)
        library.mallopt(_M_TRIM_THRESHOLD, 1 << 28)
        library.mallopt(_M_TOP_PAD, 1 << 26)


def bound_to_us(signal_name: str) -> list[str]:
    """Words before a command that make it end when we end, however that happens; empty where setpriv is missing."""
    return ["setpriv", "--pdeathsig", signal_name] if shutil.which("setpriv") else []


def end(process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Ask a child to end, and make it after so many seconds."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask_loopback(url: str) -> bytes:
    """What a server on this machine answers to GET; a proxy of the environment has no business here.

    Raises ``OSError`` when it does not answer, or with an error.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60.0) as response:
        return bytes(response.read())


def free_port() -> int:
    """A TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
