"""Decisions about complete series: made outside, recorded inside the transaction that completes the series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa
from pydicom import Dataset

from node.config import Config
from node.jobs.engine import Jobs
from node.ledger.jobs import NewJob
from node.ledger.tables import decision, event, result
from node.studies.rules import Decision, decide


class Decider:
    """Asks the rules about series, and turns their answers into rows and jobs."""

    def __init__(self, config: Config, engine: sa.Engine, jobs: Jobs) -> None:
        self._config = config
        self._engine = engine
        self._jobs = jobs

    def decide(self, series_uid: str, headers: Sequence[Dataset]) -> Decision:
        """What happens to a complete series; ``headers``: those of its files that can be read."""
        with self._engine.connect() as connection:
            ours = connection.scalar(sa.select(sa.func.count()).where(result.c.series_instance_uid == series_uid))
        if ours:
            return Decision(outcome="ignored", reason="it is a result of this node", routes=(), trace=())
        if not headers:
            return Decision(outcome="ignored", reason="none of its files can be read", routes=(), trace=())
        return decide(headers[0], self._config.rules)

    def record(
        self, connection: sa.Connection, where: dict[str, str], generation: int, verdict: Decision, at: float
    ) -> None:
        """Write the decision on a generation of the series ``where``, and enqueue its jobs."""
        connection.execute(sa.insert(event).values(**where, at=at, what=verdict.outcome, detail=verdict.reason))
        connection.execute(
            sa.insert(decision).values(
                **where,
                generation=generation,
                outcome=verdict.outcome,
                reason=verdict.reason,
                trace=list(verdict.trace),
                decided_at=at,
            )
        )
        for route in verdict.routes:
            new = NewJob(
                study_instance_uid=where["study_instance_uid"],
                series_instance_uid=where["series_instance_uid"],
                generation=generation,
                **asdict(route),
            )
            self._jobs.enqueue(connection, new)
