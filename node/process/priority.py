"""Processes that take little processor time while others want it."""

from __future__ import annotations

import os
from contextlib import suppress

_LEVELS = 10
"""Below the level of this process: a tenth of its time, where both want it. Less would stand still on a machine that
other programs keep busy."""


def compute_when_idle(pid: int) -> None:
    """Give a process that was just started, and all that it starts, a lower priority (setpriority(2)).

    There is no way back without privileges: such a process is never used for anything else.
    """
    with suppress(ProcessLookupError):  # it has ended already, which its parent notices
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + _LEVELS)  # at most 19
