"""A root folder of its own for a process in a mount namespace: only the paths of its rules exist, most read-only.

What Landlock refuses to open is not there at all, so that both hold without the other. Shared memory (``/dev/shm``) is
private and bounded.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from node.isolation.files import DEVICE, EXECUTE, LIST, WRITE
from node.isolation.libc import call

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - not a file of ours: POSIX shared memory lives there
_SHARED_MEMORY_SIZE = "25%"
"""Of the memory of the machine."""
_OLD = Path("/.old")
_PROC = Path("/proc")
_NOSUID, _NODEV, _NOEXEC, _REC, _PRIVATE, _BIND, _DETACH = 2, 4, 8, 0x4000, 1 << 18, 0x1000, 2
"""mount(2), umount2(2)."""
_MOUNT_SETATTR, _PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}
_HERE, _RECURSIVE, _READ_ONLY = -100, 0x8000, 1
"""AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY (mount_setattr(2))."""


def enter_own_root(rules: Iterable[tuple[Path, int]], *, processes: bool) -> None:
    """Change the root of this mount namespace, for good, to one with the paths of ``rules`` only, by their names.

    ``rules``: as for ``node.isolation.confine``. ``processes``: this process is in a namespace of processes, and its
    ``/proc`` shows these. Raises ``OSError`` when the kernel refuses; the process must then end.
    """
    folder = Path.cwd()
    wanted = sorted(_resolved(rules), key=lambda rule: rule[0].parts)
    call("mount", "none", "/", None, _REC | _PRIVATE, None)
    call("mount", "tmpfs", str(_PROC), "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
    old = _PROC / _OLD.name
    old.mkdir()
    call("syscall", _PIVOT_ROOT[platform.machine()], str(_PROC), str(old))
    os.chdir("/")
    _PROC.mkdir()
    if processes:
        call("mount", "proc", str(_PROC), "proc", _NOSUID | _NODEV | _NOEXEC, None)
    else:
        call("mount", str(_OLD / "proc"), str(_PROC), None, _BIND | _REC, None)
    _mount(_PROC / "sys", _PROC / "sys")
    _make_read_only(_PROC / "sys", _RECURSIVE)
    _show(wanted)
    for name, target in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        Path("/dev", name).symlink_to(f"/proc/self/{target}")
    call("umount2", str(_OLD), _DETACH)
    _OLD.rmdir()
    _make_read_only(Path("/"), 0)
    with suppress(OSError):
        os.chdir(folder)


def _resolved(rules: Iterable[tuple[Path, int]]) -> list[tuple[Path, Path, int]]:
    """Name, source without symbolic links, rights. A link gives its target that name as well."""
    resolved: dict[tuple[Path, Path], int] = {}
    here = Path.cwd()
    for path, rights in rules:
        name, source = here / path, path.resolve()
        if source.exists() and not name.is_relative_to(_PROC):
            for place in (name, source):
                resolved[place, source] = resolved.get((place, source), 0) | rights
    return [(name, source, rights) for (name, source), rights in resolved.items()]


def _show(wanted: list[tuple[Path, Path, int]]) -> None:
    shown: dict[Path, int] = {}
    """What was mounted, with its rights: it covers what is below it. Execution is for Landlock alone to refuse."""
    for name, source, rights in wanted:
        covers = (shown[place] for place in (name, *name.parents) if place in shown)
        if any(rights & ~(given | EXECUTE) == 0 for given in covers):
            continue
        if name == SHARED_MEMORY and rights == WRITE:
            name.mkdir(parents=True)
            call("mount", "tmpfs", str(name), "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={_SHARED_MEMORY_SIZE}")
        elif rights == LIST:
            name.mkdir(parents=True, exist_ok=True)
            continue
        else:
            _mount(name, _OLD / source.relative_to("/"))
            if rights not in (WRITE, DEVICE):
                _make_read_only(name, _RECURSIVE)
        shown[name] = rights


def _mount(name: Path, source: Path) -> None:
    if source.is_dir():
        name.mkdir(parents=True, exist_ok=True)
    elif not name.exists():
        name.parent.mkdir(parents=True, exist_ok=True)
        name.touch()
    call("mount", str(source), str(name), None, _BIND | _REC, None)


def _make_read_only(name: Path, flags: int) -> None:
    attributes = struct.pack("=4Q", _READ_ONLY, 0, 0, 0)
    call("syscall", _MOUNT_SETATTR, _HERE, str(name), flags, attributes, len(attributes))
