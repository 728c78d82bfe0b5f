"""Control group of a process and all that it starts (cgroups(7), version 2): bounds, and one kill for all.

It needs a group that the service manager has delegated (systemd: ``Delegate=``).
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

from node.process.limits import PROCESSES

_OWN = "node"
"""Group below the delegated one for the processes of the node: processes live in leaves only."""
_CONTROLLERS = ("memory", "pids")
_SHARE_OF_MEMORY = 0.9
"""Of the memory that the node may use: the rest stays for the node when a model takes all."""
_REMOVED_WITHIN_SECONDS = 10.0


def prepare_delegated_group() -> None:
    """Move this process, before it starts others, so that groups can be made beside it; nothing without delegation."""
    group = _own_group()
    if group is None or not _is_delegated(group):
        return
    with suppress(OSError):
        (group / _OWN).mkdir(exist_ok=True)
        (group / _OWN / "cgroup.procs").write_text(str(os.getpid()))
        for controller in _CONTROLLERS:
            with suppress(OSError):  # not offered here
                (group / "cgroup.subtree_control").write_text(f"+{controller}")


class ControlGroup:
    """One group below the delegated one."""

    def __init__(self, folder: Path) -> None:
        """Create it with its bounds. Raises ``OSError``."""
        folder.mkdir()
        limits = {
            "memory.max": int(_usable_memory(folder.parent) * _SHARE_OF_MEMORY),
            "memory.swap.max": 0,
            "memory.oom.group": 1,
            "pids.max": PROCESSES,
        }
        for limit, value in limits.items():
            with suppress(OSError):  # without its controller
                (folder / limit).write_text(str(value))
        controllers = (folder / "cgroup.controllers").read_text().split()
        self.bounds = tuple(name for name in _CONTROLLERS if name in controllers)
        """What it bounds: the controllers that were delegated."""
        self._name = folder.name
        self._parent = os.open(folder.parent, os.O_PATH | os.O_CLOEXEC)
        """The path leads elsewhere once its process has a root of its own."""

    @classmethod
    def create(cls, name: str) -> ControlGroup | None:
        """Return a new group; ``None`` where none can be made."""
        own = _own_group()
        if own is None or own.name != _OWN:
            return None
        try:
            return cls(own.parent / name)
        except OSError:
            return None

    def join(self) -> None:
        """Move this process into the group, and leave the group to others."""
        with suppress(OSError):
            self._write("cgroup.procs", str(os.getpid()))
        os.close(self._parent)

    def end(self) -> None:
        """Kill everything in the group and remove it."""
        with suppress(OSError):
            self._write("cgroup.kill", "1")
        deadline = time.monotonic() + _REMOVED_WITHIN_SECONDS
        while time.monotonic() < deadline:
            try:
                os.rmdir(self._name, dir_fd=self._parent)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    return
                time.sleep(0.01)
            else:
                return

    def _write(self, name: str, text: str) -> None:
        descriptor = os.open(f"{self._name}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._parent)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _own_group() -> Path | None:
    """Return the folder of this process's group; ``None`` without version 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
        top = next(Path(words[4]) for words in mounts if words[words.index("-") + 1] == "cgroup2")
        return top / next(line for line in lines if line.startswith("0::/")).removeprefix("0::/")
    except (OSError, StopIteration):
        return None


def _is_delegated(group: Path) -> bool:
    """Whether groups may be made below this one. Root may write everywhere, so it needs systemd's mark."""
    if os.geteuid() != 0:
        return os.access(group / "cgroup.procs", os.W_OK) and os.access(group, os.W_OK)
    try:
        return os.getxattr(group, "user.delegate") == b"1"
    except OSError:
        return False


def _usable_memory(group: Path) -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = (group / "memory.max").read_text().strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))
