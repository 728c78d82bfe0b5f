"""Decisions on complete series, recorded in the transaction that completes the series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from pydicom import Dataset

from node.config import Config
from node.jobs.engine import Jobs
from node.ledger import DecisionOutcome
from node.ledger.events import EventKind, record_study_event
from node.ledger.instances import senders_of
from node.ledger.jobs import NewJob
from node.ledger.tables import candidate, decision, result
from node.routing.completeness import Completion
from node.routing.region import region_of
from node.routing.rules import Decision, Origin, decide, is_urgent, representative
from node.routing.series_selection import Weight, weigh
from node.studies.identity import contradictions


@dataclass(frozen=True, kw_only=True)
class SeriesDecision:
    """What the rules say of one complete series."""

    decision: Decision
    weights: tuple[Weight, ...] = ()
    """What waits for the rest of the study."""
    urgent: bool = False
    cause: str = ""
    """What ignored it where no rule did; see ``ledger.tables.decision``."""


class Decider:
    """Applies the rules to series and records decisions and jobs."""

    def __init__(self, config: Config, engine: sa.Engine, jobs: Jobs) -> None:
        self._config = config
        self._engine = engine
        self._jobs = jobs

    def decide(self, study_uid: str, series_uid: str, first_at: float, headers: Sequence[Dataset]) -> SeriesDecision:
        """What happens to a complete series whose first image came ``first_at``; ``headers``: of its readable files."""
        with self._engine.connect() as connection:
            ours = connection.scalar(sa.select(sa.func.count()).where(result.c.series_instance_uid == series_uid))
            origin = Origin.of(senders_of(connection, study_uid, series_uid), first_at, self._config.destinations)
        if ours:
            return ignored("it is a result of this node")
        if not headers:
            return ignored("none of its files can be read")
        if keywords := contradictions(headers):
            return _held(keywords)
        rules, header = self._config.rules, representative(headers)
        verdict = decide(header, rules, origin)
        region = region_of(headers) if any(rule.prefer for rule in rules) else None
        weights = weigh(header, len(headers), region, verdict, rules)
        return SeriesDecision(decision=verdict, weights=tuple(weights), urgent=is_urgent(header))

    def record(
        self,
        connection: sa.Connection,
        where: dict[str, str],
        *,
        generation: int,
        ruling: SeriesDecision,
        completion: Completion,
        at: float,
    ) -> None:
        """Write the decision on a generation of the series ``where``, and enqueue its jobs."""
        verdict = ruling.decision
        record_study_event(
            connection, EventKind.DECIDED, at=at, **where, outcome=verdict.outcome, reason=verdict.reason
        )
        connection.execute(
            sa.insert(decision).values(
                **where,
                generation=generation,
                outcome=verdict.outcome,
                reason=verdict.reason,
                trace=list(verdict.trace),
                decided_at=at,
                cause=ruling.cause or None,
                incomplete=completion.incomplete or None,
                caveat=completion.caveat or None,
            )
        )
        connection.execute(sa.delete(candidate).where(*(candidate.c[name] == uid for name, uid in where.items())))
        if ruling.weights:
            same = {**where, "generation": generation, "urgent": ruling.urgent, "complete_at": at}
            connection.execute(sa.insert(candidate), [{**same, **asdict(weight)} for weight in ruling.weights])
        for route in verdict.routes:
            new = NewJob(
                study_instance_uid=where["study_instance_uid"],
                series_instance_uid=where["series_instance_uid"],
                generation=generation,
                **asdict(route),
            )
            self._jobs.enqueue(connection, new)


def _held(keywords: Sequence[str]) -> SeriesDecision:
    """Hold a series whose images contradict one another on identity."""
    reason = f"its images contradict one another on {', '.join(keywords)}; nothing of it is analysed or sent on"
    return SeriesDecision(decision=Decision(outcome=DecisionOutcome.HELD, reason=reason, routes=(), trace=()))


def ignored(reason: str, cause: str = "") -> SeriesDecision:
    """Return the decision that ignores a series for ``reason``."""
    return SeriesDecision(
        decision=Decision(outcome=DecisionOutcome.IGNORED, reason=reason, routes=(), trace=()), cause=cause
    )
