"""Checks of how far this machine confines the processes that run models, each by shutting a process in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from node.check_result import Check
from node.isolation import SIGNALS_ABI

_TRY = "from node.confined.sandbox import report; report()"
_SECONDS = 60.0
_NAMESPACES = (
    "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone = 1,"
    " kernel.apparmor_restrict_unprivileged_userns = 0; for a container a seccomp profile with unshare and mount"
)
_PROC = "leave /proc uncovered: for a container, --security-opt systempaths=unconfined"
_GROUP = "the shipped units delegate one; the log of the node says whether its models have it"
_LANDLOCK = "use Linux 6.12 or later with Landlock enabled; until then run untrusted models on a separate machine"


def isolation() -> Iterator[Check]:
    """Report each mechanism that confines models. What is missing is no failure: the others hold without it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _TRY], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        remedy = "allow seccomp; no pipeline runs without it"
        yield Check(name="isolation: seccomp", good=False, found=reason, remedy=remedy)
        return
    yield from _mechanisms(json.loads(done.stdout))


def _mechanisms(sandbox: dict[str, Any]) -> Iterator[Check]:
    level, abi, bounds = sandbox["level"], sandbox["landlock"], sandbox["group"]
    apart = level["namespaces"]
    yield _mechanism(
        "own user",
        "models have a user that nothing else has" if level["own_user"] else "models have the user of the node",
        "" if level["own_user"] or apart else _NAMESPACES,
    )
    if not apart:
        yield _mechanism("namespaces", "none: models share network stack, IPC and /dev/shm", _NAMESPACES)
    elif not level["processes"]:
        yield _mechanism("namespaces", "own files, network and IPC; other processes can be seen", _PROC)
    else:
        yield _mechanism("namespaces", "own files, network, IPC and processes", "")
    if bounds is None:
        yield _mechanism("control group", "none: the memory of models is not bounded", _GROUP)
    else:
        yield _mechanism("control group", f"one for each process, bounds: {', '.join(bounds) or 'none'}", "")
    if abi >= SIGNALS_ABI:
        yield _mechanism("Landlock", f"models see only their own files (ABI {abi})", "")
    else:
        lacking = "does not prevent signals" if abi else "none"
        yield _mechanism("Landlock", f"{lacking} (ABI {abi})", _LANDLOCK)
    yield _mechanism("seccomp", "models have no network or sockets", "")


def _mechanism(name: str, found: str, remedy: str) -> Check:
    return Check(name=f"isolation: {name}", good=True, found=found, remedy=remedy)
