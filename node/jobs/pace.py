"""How often the engine of jobs looks at what."""

from __future__ import annotations

from dataclasses import dataclass

from node.membership import BEAT_SECONDS, DEAD_SECONDS


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Intervals of heartbeats and checks."""

    beat_seconds: float = BEAT_SECONDS
    dead_after_seconds: float = DEAD_SECONDS
    look_seconds: float = 2.0
    """Between two looks for executors that have died."""
    poll_seconds: float = 0.5
    """Between two looks into a queue."""
    old_poll_seconds: float = 5.0
    """The same for a queue into which this release puts nothing."""
    reconcile_seconds: float = 30.0
    """Between two searches for jobs that are in no queue, and how long a job must have been untouched for it."""
