"""Checks of this machine: clock, disk, ledger."""

from __future__ import annotations

import ctypes
import os
import time
import uuid
from pathlib import Path

from node.check import Check
from node.config import Config
from node.errors import NodeError
from node.ledger.engine import integrity_answer
from node.service import open_storage
from node.translation import gettext

_PROBE_MIB = 64
_SLOW_MIB_PER_SECOND = 50.0
"""Rate of ten scanners at 5 MiB/s each."""
_TIME_ERROR = 5
"""What adjtimex(2) returns while the kernel's clock is not synchronised."""


def our_clock() -> Check:
    """Check that the kernel's clock is synchronised, by NTP, PTP or the host of a virtual machine."""
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))  # struct timex, modes = 0
    if state < 0:
        text = gettext("state not known ({reason})", reason=os.strerror(ctypes.get_errno()))
        return Check(name="clock", good=True, found=text)
    if state == _TIME_ERROR:
        return Check(
            name="clock",
            good=True,
            found=gettext("not synchronised, according to the kernel"),
            remedy=gettext("start chrony or systemd-timesyncd (on the host of a container); results carry these times"),
        )
    return Check(name="clock", good=True, found=gettext("synchronised"))


def disk_speed(folder: Path) -> Check:
    """Measure the rate of synced writes."""
    probe = folder / f".probe-{uuid.uuid4().hex}"
    block = os.urandom(2**20)
    started = time.perf_counter()
    try:
        with probe.open("wb") as file:
            for _ in range(_PROBE_MIB):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = gettext("correct [storage] folder, its rights or its free space")
        return Check(name="disk speed", good=False, found=f"{folder}: {error.strerror}", remedy=remedy)
    finally:
        probe.unlink(missing_ok=True)
    rate = _PROBE_MIB / (time.perf_counter() - started)
    slow = rate < _SLOW_MIB_PER_SECOND
    return Check(
        name="disk speed",
        good=True,
        found=gettext("{rate} MiB/s for synced writes", rate=f"{rate:.0f}"),
        remedy=gettext("receiving will be slow: use a local disk or SSD") if slow else "",
    )


def integrity(config: Config) -> Check:
    """Run SQLite's integrity check; a PostgreSQL server only reports its version."""
    name = "ledger integrity"
    try:
        engine, _ = open_storage(config)
    except NodeError as error:
        return Check(name=name, good=False, found=str(error))
    try:
        answer = integrity_answer(engine)
    finally:
        engine.dispose()
    if engine.dialect.name != "sqlite":
        text = gettext("PostgreSQL {version} answers; it checks its own files", version=answer[0])
        return Check(name=name, good=True, found=text)
    if answer == ["ok"]:
        return Check(name=name, good=True, found=gettext("ok"))
    remedy = gettext("stop the node and move ledger.sqlite* away: it is rebuilt from the files")
    return Check(name=name, good=False, found="; ".join(answer[:3]), remedy=remedy)
