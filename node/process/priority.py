"""Processes that take little processor time while others want it."""

from __future__ import annotations

import os
from contextlib import suppress

TIMES_SLOWER = 10.0
"""How much longer than others such a process may take: on a busy machine it has little time."""
_NICEST = 19
"""About a seventieth of the time of a process with the usual level, where both want it. ``SCHED_IDLE`` would get a
third of a hundredth, and never begin on a machine that other programs keep busy."""


def compute_when_idle(pid: int) -> None:
    """Give a process that was just started, and all that it starts, the lowest priority (setpriority(2)).

    There is no way back without privileges: such a process is never used for anything else.
    """
    with suppress(ProcessLookupError):  # it has ended already, which its parent notices
        os.setpriority(os.PRIO_PROCESS, pid, _NICEST)
