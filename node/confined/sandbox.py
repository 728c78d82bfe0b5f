"""The sandbox of a process that runs models or reads strangers' files, at the best level that this machine allows.

From the floor that every Linux has to the best: limits and an end together with all that it started; system calls by
seccomp; files by Landlock; namespaces with a root of its own; a user of its own; a control group. What a level lacks
is logged and never fails a job; only seccomp is indispensable.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from node.isolation import WRITE, abi, confine, programs, refuse_calls
from node.isolation.namespaces import Level, levels, unshare
from node.isolation.needs import device_groups
from node.isolation.own_root import enter_own_root
from node.isolation.own_user import (
    DAC_OVERRIDE,
    DAC_READ_SEARCH,
    become,
    can_change_user,
    capabilities,
    own_user,
    set_capabilities,
)
from node.process.children import leave_signals_to_parent
from node.process.control_group import ControlGroup, prepare_delegated_group
from node.process.limits import limit_own_processes, set_limits
from node.process.memory import end_before_parent
from node.process.subreaper import fork_below

Rules = Collection[tuple[Path, int]]


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """What holds for a process that was shut in."""

    level: Level
    landlock: int
    """Version of its ABI; 0: none."""
    group: tuple[str, ...] | None
    """What its control group bounds; ``None`` without one."""

    def __str__(self) -> str:
        bounds = "none" if self.group is None else f"one ({' and '.join(self.group) or 'no'} bounds)"
        landlock = f"ABI {self.landlock}" if self.landlock else "none"
        return f"{self.level}; control group: {bounds}; Landlock: {landlock}; seccomp: yes"

    @property
    def shows_other_files(self) -> bool:
        """Whether the files of its user are visible."""
        return not (self.landlock or self.level.namespaces)


def fork_sandboxed(parent: int, release: Callable[[], None], rules: Rules, own: Sequence[Path] = ()) -> Sandbox:
    """Return in a new process that has namespaces, user, group and root of its own; then call ``shut_in``.

    ``rules``: files, as for ``node.isolation.confine``. ``own``: folders of which its user becomes the owner; the first
    one, which may outlive the process, decides which user. Without any it has namespaces and a root of its own, and
    keeps its user: it reads files of others and its memory has a limit already. For ``parent`` and ``release`` see
    ``node.process.subreaper.fork_below``. Call it before there are threads.
    """
    leave_signals_to_parent()
    set_limits()
    level = next(level for level in levels(own_user=bool(own)) if _works(level, rules))
    group = ControlGroup.create(f"sandbox-{os.getpid()}") if own else None
    user = own_user(own[0]) if own else os.geteuid()
    if level.own_user:
        for folder in own:
            os.chown(folder, user, user)
    if level.namespaces:
        unshare(level)
    fork_below(parent, release, group)
    if level.processes:
        fork_below(None, release)
    end_before_parent()
    _set_apart(level, rules, user)
    return Sandbox(level=level, landlock=abi(), group=None if group is None else group.bounds)


def shut_in(rules: Rules) -> None:
    """Confine this process to ``rules`` and to the calls of ``node.isolation.allowed_system_calls``, for good."""
    confine(rules)
    refuse_calls()


def report() -> None:
    """Shut this process in and print what holds as JSON: what ``ainode doctor`` runs in a process of its own."""
    prepare_delegated_group()
    with TemporaryDirectory() as own:
        rules = (*programs(), (Path(own), WRITE))
        child = os.fork()
        if child == 0:
            sandbox = fork_sandboxed(os.getppid(), lambda: None, rules, own=(Path(own),))
            shut_in(rules)
            sys.stdout.write(json.dumps(asdict(sandbox)))
            sys.stdout.flush()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
    sys.exit(os.waitstatus_to_exitcode(status))


def _set_apart(level: Level, rules: Rules, user: int) -> None:
    groups = device_groups(rules)
    if level.namespaces:
        enter_own_root(rules, processes=level.processes)
    if level.own_user:
        become(user, groups)
    elif level.users and os.geteuid() != 0:
        set_capabilities(0)  # those of the namespace have done their work
    elif level.namespaces and not level.users:
        set_capabilities(capabilities() & (DAC_OVERRIDE | DAC_READ_SEARCH))
    if level.own_user or level.users:
        limit_own_processes()


def _works(level: Level, rules: Rules) -> bool:
    """Whether this machine allows a level: tried out in a process that then ends."""
    if level == Level():
        return True
    if level.own_user and not can_change_user():
        return False
    trial = os.fork()
    if trial == 0:
        os._exit(_try(level, rules))
    return os.waitpid(trial, 0)[1] == 0


def _try(level: Level, rules: Rules) -> int:
    try:
        if level.namespaces:
            unshare(level)
        if level.processes and (child := os.fork()) != 0:
            return int(os.waitpid(child, 0)[1] != 0)
        _set_apart(level, rules, own_user(Path()))
    except OSError:
        return 1
    return 0
