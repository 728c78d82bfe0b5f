"""What a hostile model would try. Runs in the process of a pipeline; every attempt is harmless where it succeeds."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import prying_calls

ALLOWED = {
    "read its input",
    "write a temporary file",
    "move a temporary file",
    "start a program",
    "read the system's libraries",
}
"""Attempts that must succeed."""


@contextmanager
def laid_out(folder: Path, shared: Path | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Lay out the storage folder of a node with what a model may look for, and sockets; yield it with the options.

    ``shared``: shared memory of another process; ``None``: a file of the storage folder stands for it.
    """
    storage = folder / "storage"
    (storage / "sub").mkdir(parents=True)
    for name in ("config.toml", "ledger.sqlite", "other.dcm", "web-users", "victim", "sub/study.dcm"):
        (storage / name).write_text("of the node")
    if shared is None:
        shared = storage / "shared"
        shared.write_text("of another process")
    stream, datagrams = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with stream, datagrams:
        stream.bind(str(folder / "stream"))
        stream.listen()
        datagrams.bind(str(folder / "datagrams"))
        yield (
            storage,
            {
                "does": "pry",
                "read": [str(path) for path in storage.rglob("*") if path.is_file()],
                "write": str(storage),
                "outside": str(folder / "outside"),
                "unix": str(folder / "stream"),
                "datagrams": str(folder / "datagrams"),
                "shared": str(shared),
                "parent": os.getpid(),
            },
        )


def tried(images: Path, options: Mapping[str, Any]) -> dict[str, str]:
    """Attempt -> ``done``, the name of the error, or ``unknown here`` when the kernel has no such call.

    ``images``: the folder of the model's own input. ``options``: ``read``, files to read; ``write``, a folder to write
    into, with a file ``victim``; ``unix`` and ``datagrams``, sockets to call; ``parent``, a process to look into.
    """
    with tempfile.TemporaryDirectory() as mine:
        attempts = {
            **_allowed(images, Path(mine)),
            **_at_files(images, Path(mine), options),
            **_at_others(options),
            **_at_the_machine(options),
            **prying_calls.attempts(min(images.iterdir()), int(options["parent"])),
        }
        return {what: _outcome(attempt) for what, attempt in attempts.items()}


def _allowed(images: Path, mine: Path) -> dict[str, Callable[[], object]]:
    return {
        "read its input": min(images.iterdir()).read_bytes,
        "write a temporary file": lambda: (mine / "file").write_text("x"),
        "move a temporary file": lambda: (mine / "file").rename(mine / "other"),
        "start a program": lambda: subprocess.run([sys.executable, "-c", "import json"], check=True),
        "read the system's libraries": lambda: next(Path("/usr/lib").iterdir()),
    }


def _at_files(images: Path, mine: Path, options: Mapping[str, Any]) -> dict[str, Callable[[], object]]:
    own, target = min(images.iterdir()), Path(options["write"])
    victim, outside = target / "victim", Path(options["outside"])
    return {
        **{f"read {Path(name).name}": Path(name).read_bytes for name in options["read"]},
        "list the storage folder": lambda: _refuse_unless(victim in target.iterdir()),
        "write into the storage folder": lambda: (target / "mine").write_text("x"),
        "change its input": lambda: own.open("ab").close(),
        "change the mode of its input": lambda: own.chmod(0o600),
        "change the owner of its input": lambda: os.chown(own, -1, os.getgid()),
        "mark its input": lambda: os.setxattr(own, "user.mine", b"x"),
        "give a file a second name of its own": lambda: os.link(victim, mine / "second"),
        "leave a symbolic link": lambda: (mine / "link").symlink_to("/etc/passwd"),
        "write elsewhere": lambda: outside.write_text("x"),
        "have a program read for it": lambda: subprocess.run(["cat", victim], check=True, capture_output=True),
        "open a file through its parent": Path(f"/proc/{options['parent']}/root{victim}").read_bytes,
        "truncate a file": lambda: os.truncate(victim, 0),
        "remove a file": victim.unlink,
    }


def _at_others(options: Mapping[str, Any]) -> dict[str, Callable[[], object]]:
    parent = int(options["parent"])
    return {
        "call a socket of the machine": lambda: _call(options["unix"]),
        "send a datagram to one": lambda: _send(options["datagrams"]),
        "signal its parent": lambda: os.kill(parent, 0),
        "read its parent's environment": Path(f"/proc/{parent}/environ").read_bytes,
        "learn its parent's files": Path(f"/proc/{parent}/fd/0").readlink,
    }


def _at_the_machine(options: Mapping[str, Any]) -> dict[str, Callable[[], object]]:
    shared = Path(options["shared"])
    return {
        "read another process's shared memory": shared.read_bytes,
        "remove another process's shared memory": lambda: shared.rename(f"{shared}.x").rename(shared),
        "fill the machine's shared memory": lambda: _fill(shared.parent / f"fill-{os.getpid()}"),
        "see another process": lambda: next(Path(f"/proc/{options['parent']}").iterdir()),
        "see the network's interfaces": lambda: _refuse_unless(Path("/proc/net/dev").read_text().count(":") > 1),
        "read the users' passwords": Path("/etc/shadow").read_bytes,
        "raise its own limits": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)),
        "change a setting of the kernel": lambda: Path("/proc/sys/vm/swappiness").open("r+").close(),
        "leave its control group": lambda: _group().open("w").close(),
        "become root": lambda: os.setuid(0) if os.getuid() else os.setgroups([0]),
    }


def _refuse_unless(seen: object) -> None:
    if not seen:
        raise PermissionError


def _fill(file: Path) -> None:
    """Ask for more than a private one has, without taking it."""
    try:
        with file.open("wb") as stream:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            stream.truncate(1)
            status = os.statvfs(file.parent)
        _refuse_unless(status.f_blocks * status.f_frsize > 0.3 * total)
    finally:
        file.unlink(missing_ok=True)


def _group() -> Path:
    top = Path("/sys/fs/cgroup")
    return next(path for path in (top / "cgroup.procs", top / "unified" / "cgroup.procs") if path.exists())


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        absent = isinstance(error, OSError) and error.errno == errno.ENOSYS
        return "unknown here" if absent else type(error).__name__
    return "done"


def _call(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)


def _send(path: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.sendto(b"x", path)
