"""Decisions about complete series: made outside, recorded inside the transaction that completes the series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydicom import Dataset

from node.config import Config
from node.jobs.engine import Jobs
from node.ledger.jobs import NewJob
from node.ledger.tables import association, candidate, decision, event, instance, result, series
from node.studies.choice import marks
from node.studies.rules import Decision, Origin, decide, is_urgent


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What the rules say of one complete series."""

    decision: Decision
    candidates: tuple[dict[str, Any], ...] = ()
    """Rows of ``candidate``, without series, generation and times."""


class Decider:
    """Asks the rules about series, and turns their answers into rows and jobs."""

    def __init__(self, config: Config, engine: sa.Engine, jobs: Jobs) -> None:
        self._config = config
        self._engine = engine
        self._jobs = jobs

    def decide(self, study_uid: str, series_uid: str, headers: Sequence[Dataset]) -> Ruling:
        """What happens to a complete series; ``headers``: those of its files that can be read."""
        with self._engine.connect() as connection:
            ours = connection.scalar(sa.select(sa.func.count()).where(result.c.series_instance_uid == series_uid))
            origin = origin_of(connection, study_uid, series_uid)
        if ours:
            return Ruling(decision=_ignored("it is a result of this node"))
        if not headers:
            return Ruling(decision=_ignored("none of its files can be read"))
        verdict = decide(headers[0], self._config.rules, origin)
        return Ruling(decision=verdict, candidates=tuple(self._candidates(headers, verdict)))

    def record(
        self, connection: sa.Connection, where: dict[str, str], generation: int, ruling: Ruling, at: float
    ) -> None:
        """Write the decision on a generation of the series ``where``, and enqueue its jobs."""
        verdict = ruling.decision
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
        connection.execute(sa.delete(candidate).where(*(candidate.c[name] == uid for name, uid in where.items())))
        if ruling.candidates:
            same = {**where, "generation": generation, "complete_at": at}
            connection.execute(sa.insert(candidate), [{**same, **row} for row in ruling.candidates])
        for route in verdict.routes:
            new = NewJob(
                study_instance_uid=where["study_instance_uid"],
                series_instance_uid=where["series_instance_uid"],
                generation=generation,
                **asdict(route),
            )
            self._jobs.enqueue(connection, new)

    def _candidates(self, headers: Sequence[Dataset], verdict: Decision) -> list[dict[str, Any]]:
        rules = {rule.name: rule for rule in self._config.rules}
        found = []
        for entry in verdict.trace:
            rule, name = rules[entry["rule"]], entry.get("companion", "")
            if entry["matched"] and (name or entry["chosen"] is None):
                prefer = rule.companions[name].prefer if name else rule.prefer
                found.append(
                    {
                        "rule": rule.name,
                        "companion": name,
                        "marks": [list(mark) for mark in marks(prefer, headers)],
                        "urgent": is_urgent(headers[0]),
                    }
                )
        return found


def origin_of(connection: sa.Connection, study_uid: str, series_uid: str) -> Origin:
    """Who sent a series, and when its first image came."""
    senders = connection.execute(
        sa.select(association.c.calling_ae, association.c.peer_address)
        .join(instance, instance.c.association_id == association.c.id)
        .where(instance.c.study_instance_uid == study_uid, instance.c.series_instance_uid == series_uid)
        .distinct()
        .order_by(association.c.calling_ae, association.c.peer_address)
    )
    first_at = connection.scalar(
        sa.select(series.c.first_at).where(
            series.c.study_instance_uid == study_uid, series.c.series_instance_uid == series_uid
        )
    )
    return Origin(
        senders=tuple((row.calling_ae, row.peer_address) for row in senders),
        received_at=None if first_at is None else datetime.fromtimestamp(first_at, UTC).astimezone(),
    )


def _ignored(reason: str) -> Decision:
    return Decision(outcome="ignored", reason=reason, routes=(), trace=())
