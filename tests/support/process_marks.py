"""Marks of processes that hold in every namespace: a process may have another number for itself than for the test."""

from __future__ import annotations

import os
from pathlib import Path


def mark(number: int | None = None) -> str:
    """Of this process, or of one that it sees under a number: that number, and when it started."""
    number = number or os.getpid()
    return f"{number}:{_stat(Path(f'/proc/{number}'))[19]}"


def leave_mark(log: Path) -> None:
    """Append a line to a file that other users may append to as well."""
    before = os.umask(0)
    try:
        with log.open("a") as file:
            file.write(f"{mark()}\n")
    finally:
        os.umask(before)


def alive(process: int | str) -> bool:
    """Whether a process, named by its number or its mark, runs and is no zombie."""
    if isinstance(process, int):
        return _runs(Path(f"/proc/{process}"), "")
    number, _, start = process.partition(":")
    return any(_runs(folder, start, number) for folder in Path("/proc").glob("[0-9]*"))


def _runs(folder: Path, start: str, number: str = "") -> bool:
    try:
        words = _stat(folder)
        inner = (folder / "status").read_text().partition("NSpid:")[2].split("\n")[0].split()[-1]
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False
    return words[0] != "Z" and start in ("", words[19]) and number in ("", inner)


def _stat(folder: Path) -> list[str]:
    """The words of its line from the state on (proc(5))."""
    return (folder / "stat").read_text().rpartition(")")[2].split()
