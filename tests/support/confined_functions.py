"""Functions that the tests run in a confined process; several do what an attacker would do who controls it."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from process_marks import mark

from node.confined import bounded
from node.errors import IdentityError, InputError


@dataclass(frozen=True, kw_only=True)
class Values:
    number: int
    data: bytes
    parts: tuple[float, ...]


def values(number: int) -> Values:
    return Values(number=number, data=b"\0\xff\n", parts=(1.5, float("inf")))


def process() -> str:
    return mark()


def decoders() -> list[str]:
    """Libraries that pydicom decodes with, as far as it has loaded them."""
    import pydicom  # noqa: F401 - loads what is installed

    return [name for name in ("gdcm", "openjpeg", "jpeg_ls") if sys.modules.get(name) is not None]


def text(path: Path) -> str:
    return path.read_text()


def variables() -> dict[str, str]:
    """What this process was started with, in the memory of the kernel, and what Python shows."""
    started = [entry.decode().partition("=") for entry in Path("/proc/self/environ").read_bytes().split(b"\0") if entry]
    return {name: value for name, _, value in started} | dict(os.environ)


def escapes(ledger: Path, image: Path, shared: Path, parent: int) -> dict[str, bool]:
    """What works that a process that reads images must not do."""
    attempts = {
        "read the ledger": ledger.read_bytes,
        "list the storage folder": lambda: os.listdir(ledger.parent).index(ledger.name),  # noqa: PTH208
        "change an image": lambda: image.write_bytes(b"changed"),
        "remove an image": image.unlink,
        "write elsewhere": lambda: (ledger.parent / "left").write_bytes(b"left"),
        "read another process's shared memory": shared.read_bytes,
        "see another process": Path(f"/proc/{parent}").stat,
        "read its parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "signal its parent": lambda: os.kill(parent, 0),
        "see the network's interfaces": _foreign_interfaces,
        "call a socket": lambda: socket.socket().close(),
        "have a program read for it": lambda: subprocess.run(["cat", ledger], check=True, capture_output=True),
    }
    return {name: _works(attempt) for name, attempt in attempts.items()}


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return True


def _foreign_interfaces() -> None:
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    if not any(int(line.split()[1]) for line in lines):
        raise OSError("none that has received anything")


def write(path: Path) -> int:
    return path.write_text("written")


def refuse() -> int:
    raise IdentityError("PatientID: two of them")


def break_off() -> int:
    raise KeyError("no such thing")


def spin() -> int:
    while True:
        pass


def spin_on_one_of_three() -> list[str]:
    answers = []
    for name in ("first", "second", "third"):
        try:
            with bounded(name, 0.3):
                while name == "second":
                    pass
            answers.append(f"{name} read")
        except InputError as error:
            answers.append(str(error))
    return answers


def fill_memory() -> int:
    blocks = []
    while True:
        blocks.append(bytearray(1 << 24))


def fill_memory_on_one_of_three() -> list[str]:
    answers = []
    for name in ("first", "second", "third"):
        try:
            with bounded(name, 60):
                if name == "second":
                    fill_memory()
            answers.append(f"{name} read")
        except InputError as error:
            answers.append(str(error))
    return answers


def hold_memory(mib: int) -> int:
    global held  # noqa: PLW0603 - as a cache of a library would
    held = bytearray(mib << 20)
    return os.getpid()


def crash() -> int:
    ctypes.string_at(0)
    return 0


def kill_oneself() -> int:
    os.kill(os.getpid(), 9)
    return 0


def sleep() -> int:
    time.sleep(3600)
    return 0


def connect(port: int) -> int:
    socket.create_connection(("127.0.0.1", port))
    return 0


def start_daemon() -> str:
    code = "import os, time; os.setsid(); time.sleep(3600)"
    return mark(subprocess.Popen([sys.executable, "-c", code]).pid)


def reply_with(data: bytes) -> int:
    """Write into the socket to the parent, as code that controls the process can."""
    os.write(int(sys.argv[1]), data)
    time.sleep(3600)
    return 0


def reply_without_end() -> int:
    while True:
        os.write(int(sys.argv[1]), b"=+[" + b" " * 60000)
