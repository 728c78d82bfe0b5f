"""Checks of how far this machine confines the processes that run models, each by shutting a process in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from node.check import Check
from node.isolation import SIGNALS_ABI
from node.translation import gettext, marked

_TRY = "from node.confined.sandbox import report; report()"
_SECONDS = 60.0
_NAMESPACES = marked(
    "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone = 1,"
    " kernel.apparmor_restrict_unprivileged_userns = 0; for a container a seccomp profile with unshare and mount"
)
_PROC = marked("leave /proc uncovered: for a container, --security-opt systempaths=unconfined")
_GROUP = marked("the shipped units delegate one; the log of the node says whether its models have it")
_LANDLOCK = marked(
    "use Linux 6.12 or later with Landlock enabled; until then run untrusted models on a separate machine"
)


def isolation() -> Iterator[Check]:
    """Report each mechanism that confines models. What is missing is no failure: the others hold without it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _TRY], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        remedy = gettext("allow seccomp; no pipeline runs without it")
        yield Check(
            name=gettext("isolation: {mechanism}", mechanism="seccomp"), good=False, found=reason, remedy=remedy
        )
        return
    yield from _mechanisms(json.loads(done.stdout))


def _mechanisms(sandbox: dict[str, Any]) -> Iterator[Check]:
    level, abi, bounds = sandbox["level"], sandbox["landlock"], sandbox["group"]
    apart = level["namespaces"]
    yield _mechanism(
        marked("own user"),
        gettext("models have a user that nothing else has")
        if level["own_user"]
        else gettext("models have the user of the node"),
        "" if level["own_user"] or apart else _NAMESPACES,
    )
    if not apart:
        yield _mechanism(
            marked("namespaces"), gettext("none: models share network stack, IPC and /dev/shm"), _NAMESPACES
        )
    elif not level["processes"]:
        yield _mechanism(
            marked("namespaces"), gettext("own files, network and IPC; other processes can be seen"), _PROC
        )
    else:
        yield _mechanism(marked("namespaces"), gettext("own files, network, IPC and processes"), "")
    if bounds is None:
        yield _mechanism(marked("control group"), gettext("none: the memory of models is not bounded"), _GROUP)
    else:
        listed = ", ".join(bounds) or gettext("none")
        yield _mechanism(marked("control group"), gettext("one for each process, bounds: {bounds}", bounds=listed), "")
    if abi >= SIGNALS_ABI:
        yield _mechanism("Landlock", gettext("models see only their own files (ABI {abi})", abi=abi), "")
    else:
        lacking = gettext("does not prevent signals") if abi else gettext("none")
        yield _mechanism("Landlock", f"{lacking} (ABI {abi})", _LANDLOCK)
    yield _mechanism("seccomp", gettext("models have no network or sockets"), "")


def _mechanism(name: str, text: str, remedy: str) -> Check:
    return Check(
        name=gettext("isolation: {mechanism}", mechanism=gettext(name)), good=True, found=text, remedy=gettext(remedy)
    )
