"""What a hostile model prints and sends to its parent."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_LINE = b"a line that says nothing, of which there are so many that they would fill the disk\n"


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


HOSTILE_OUTPUT = {
    "print without end": _print_without_end,
    "print too much": _print_too_much,
    "reply too much": lambda: _reply_with(b"x" * (600 << 20)),
    "reply nonsense": lambda: _reply_with(b"[" * 5000 + b"\n"),
    "reply half": lambda: _reply_with(b"{"),
    "long reason": _raise_with_a_long_message,
}
