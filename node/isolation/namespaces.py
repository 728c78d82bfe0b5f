"""Namespaces of its own for this process and what it starts (namespaces(7)): processes, mounts, network, System V IPC.

Without privileges a user namespace comes first, in which this process is its own user and nobody else exists.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from node.isolation.libc import call

_MOUNTS, _NAMES, _IPC, _USERS, _PROCESSES, _NETWORK = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
"""CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h)."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """How far a process can be set apart from all others of this machine, before Landlock and seccomp."""

    own_user: bool = False
    """A numeric user that nothing else has."""
    namespaces: bool = False
    """Mounts, network and IPC of its own: it sees no other files than those of its rules."""
    processes: bool = False
    """Processes of its own: no other exists for it."""
    users: bool = False
    """The namespaces belong to a user namespace: no privilege was needed."""

    def __str__(self) -> str:
        kinds = ("files, network and IPC", *(["processes"] if self.processes else []))
        namespaces = f"own {' and '.join(kinds)}" if self.namespaces else "none"
        return f"own user: {'yes' if self.own_user else 'no'}; namespaces: {namespaces}"


def levels(*, own_user: bool) -> list[Level]:
    """Return the levels worth trying, the best first; the last one always works.

    Without ``own_user`` root stays root, in no user namespace: there it could not read the files of other users.
    """
    alone = [
        Level(namespaces=True, processes=True, users=True),
        Level(namespaces=True, users=True),
        Level(),
    ]
    if os.geteuid() != 0:
        return alone
    as_root = [Level(own_user=own_user, namespaces=True, processes=True), Level(own_user=own_user, namespaces=True)]
    return [*as_root, *alone[:2], Level(own_user=True), Level()] if own_user else [*as_root, Level()]


def unshare(level: Level) -> None:
    """Move this process into new namespaces; of processes, what it starts from now on. Raises ``OSError``."""
    user, group = os.geteuid(), os.getegid()
    flags = _MOUNTS | _NAMES | _IPC | _NETWORK
    call("unshare", flags | (_PROCESSES if level.processes else 0) | (_USERS if level.users else 0))
    if level.users:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
