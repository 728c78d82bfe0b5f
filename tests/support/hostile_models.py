"""What hostile models print, send to their parent, and leave running."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from node.pipeline import Unsuitable

_LINE = b"a line that says nothing, of which there are so many that they would fill the disk\n"


_DAEMON = """
import os, pathlib, sys, time
for _ in range(3):
    if os.fork(): os._exit(0)
    os.setsid()
os.closerange(0, 100)
sys.path[:0] = sys.argv[2:]
from process_marks import leave_mark
leave_mark(pathlib.Path(sys.argv[1]))
time.sleep(120)
"""
"""Leaves its group, its session and its parent, and holds no pipe."""


def _print_without_end() -> None:
    for _ in range(300):
        os.write(2, bytes(1 << 20))


def _print_too_much() -> None:
    for _ in range(400):
        os.write(2, _LINE * 100)


def _reply_with(data: bytes) -> None:
    """Write into every socket of this process: one of them is the pipe to the worker."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(entry.readlink()).startswith("socket:"):
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(int(entry.name), rest) :]
    time.sleep(60)


def _raise_with_a_long_message() -> None:
    raise RuntimeError("x" * (64 << 20))


def _leave_a_daemon(log: str, seconds: int) -> None:
    subprocess.run([sys.executable, "-c", _DAEMON, log, *sys.path], check=True)
    while not (Path(log).exists() and Path(log).read_text()):
        time.sleep(0.01)
    time.sleep(seconds)
    os._exit(3)


def _stop_reading() -> None:
    """Hold the interpreter, so that the thread that receives tasks gets no turn."""
    ctypes.PyDLL(None).sleep(60)


def _fill_the_disk(mib: int) -> None:
    folder = Path(os.environ["TMPDIR"])
    for number in range(mib):
        (folder / str(number)).write_bytes(os.urandom(1 << 20))
    time.sleep(120)


def _report_limits() -> None:
    names = ("RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_NPROC")
    raise Unsuitable(json.dumps({name: resource.getrlimit(getattr(resource, name)) for name in names}))


def _report_variables() -> None:
    """What this process was started with, in the memory of the kernel, and what Python shows."""
    started = [entry.decode().partition("=") for entry in Path("/proc/self/environ").read_bytes().split(b"\0") if entry]
    raise Unsuitable(json.dumps({name: value for name, _, value in started} | dict(os.environ)))


HOSTILE: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "print without end": lambda _: _print_without_end(),
    "print too much": lambda _: _print_too_much(),
    "reply too much": lambda _: _reply_with(b"x" * (600 << 20)),
    "reply nonsense": lambda _: _reply_with(b"[" * 5000 + b"\n"),
    "reply half": lambda _: _reply_with(b"{"),
    "long reason": lambda _: _raise_with_a_long_message(),
    "daemon": lambda options: _leave_a_daemon(options["daemons"], 0),
    "daemon and hang": lambda options: _leave_a_daemon(options["daemons"], 60),
    "stop reading": lambda _: _stop_reading(),
    "fill the disk": lambda options: _fill_the_disk(options["mib"]),
    "limits": lambda _: _report_limits(),
    "variables": lambda _: _report_variables(),
}
