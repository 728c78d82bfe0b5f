"""Heartbeats: every process that executes stages renews a row of the ledger under its own id.

Whoever sees that a beat is stale removes its row; the work of an executor without a row is put back in the queues.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from sqlalchemy import Engine

from node.ledger.engine import begin_immediate
from node.ledger.executors import Beat, Executor, other_beats, remove_executors, renew_beat, shared_clock
from node.process.presence import process_exists, process_space


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Intervals of heartbeats and checks."""

    beat_seconds: float = 2.0
    """Between two beats."""
    dead_after_seconds: float = 15.0
    """An executor that was silent for this long has died."""
    poll_seconds: float = 0.5
    """Between two looks into a queue."""
    reconcile_seconds: float = 30.0
    """Between two searches for jobs that are in no queue, and how long a job must have been untouched for it."""


class Heartbeat:
    """The beat of one executor."""

    def __init__(self, engine: Engine, executor_id: str, role: str, pace: Pace) -> None:
        self._engine = engine
        self._pace = pace
        self._executor = Executor(id=executor_id, role=role, host=process_space(), pid=os.getpid())
        self._steady_since: float | None = None
        self._last_beat = 0.0

    def beat(self) -> frozenset[str]:
        """Renew the own row, remove the rows of the dead, and return the ids of those alive."""
        with begin_immediate(self._engine) as connection:
            at = shared_clock(connection)
            renew_beat(connection, self._executor, at)
            others = other_beats(connection, self._executor.id)
            dead = [other.executor.id for other in others if self._has_died(other, at)]
            remove_executors(connection, dead)
        if self._steady_since is None or not 0 <= at - self._last_beat <= self._pace.dead_after_seconds / 2:
            self._steady_since = at
        self._last_beat = at
        return frozenset({self._executor.id, *(other.executor.id for other in others)} - set(dead))

    def leave(self) -> None:
        """Remove the own row: what this executor left undone is free at once."""
        with begin_immediate(self._engine) as connection:
            remove_executors(connection, [self._executor.id])

    def _has_died(self, other: Beat, at: float) -> bool:
        if other.executor.host == self._executor.host and not process_exists(other.executor.pid):
            return True
        # After an outage of the database every beat is stale, and when the clock was set, every beat is wrong: wait
        # until the others had the time to beat again.
        steady = self._steady_since is not None and at - self._steady_since > self._pace.dead_after_seconds
        return bool(steady and abs(at - other.at) > self._pace.dead_after_seconds)
