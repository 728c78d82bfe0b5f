"""Decisions on complete series, recorded in the transaction that completes the series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pydicom import Dataset
from sqlalchemy import Connection, Engine

from node.config import Config
from node.jobs.engine import Jobs
from node.ledger import DecisionCause, DecisionOutcome
from node.ledger.associations import senders_of
from node.ledger.candidates import record_candidates
from node.ledger.decisions import NewDecision, record_decision
from node.ledger.jobs import NewJob
from node.ledger.results import is_of_result
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
    cause: DecisionCause | None = None
    """What ignored it where no rule did."""


class Decider:
    """Applies the rules to series and records decisions and jobs."""

    def __init__(self, config: Config, engine: Engine, jobs: Jobs) -> None:
        self._config = config
        self._engine = engine
        self._jobs = jobs

    def decide(self, study_uid: str, series_uid: str, first_at: float, headers: Sequence[Dataset]) -> SeriesDecision:
        """What happens to a complete series whose first image came ``first_at``; ``headers``: of its readable files."""
        with self._engine.connect() as connection:
            ours = is_of_result(connection, series_uid)
            origin = Origin.of(senders_of(connection, study_uid, series_uid), first_at, self._config.destinations)
        if ours:
            return ignored("it is a result of this node")
        if not headers:
            return ignored("none of its files can be read")
        if keywords := contradictions(headers):
            return _held(keywords)
        rules, header = self._config.rules, representative(headers)
        decision = decide(header, rules, origin)
        region = region_of(headers) if any(rule.prefer for rule in rules) else None
        weights = weigh(header, len(headers), region, decision, rules)
        return SeriesDecision(decision=decision, weights=tuple(weights), urgent=is_urgent(header))

    def record(
        self,
        connection: Connection,
        study_uid: str,
        series_uid: str,
        *,
        generation: int,
        decided: SeriesDecision,
        completion: Completion,
        at: float,
    ) -> None:
        """Write the decision on a generation of a series, and enqueue its jobs."""
        decision = decided.decision
        record_decision(
            connection,
            NewDecision(
                study_instance_uid=study_uid,
                series_instance_uid=series_uid,
                generation=generation,
                outcome=decision.outcome,
                reason=decision.reason,
                trace=decision.trace,
                decided_at=at,
                cause=decided.cause,
                incomplete=completion.incomplete or None,
                caveat=completion.caveat or None,
            ),
        )
        weights = [asdict(weight) for weight in decided.weights]
        record_candidates(
            connection, study_uid, series_uid, generation=generation, urgent=decided.urgent, at=at, weights=weights
        )
        for route in decision.routes:
            new = NewJob(
                study_instance_uid=study_uid,
                series_instance_uid=series_uid,
                generation=generation,
                **asdict(route),
            )
            self._jobs.enqueue(connection, new)


def _held(keywords: Sequence[str]) -> SeriesDecision:
    """Hold a series whose images contradict one another on identity."""
    reason = f"its images contradict one another on {', '.join(keywords)}; nothing of it is analysed or sent on"
    return SeriesDecision(decision=Decision(outcome=DecisionOutcome.HELD, reason=reason, routes=(), trace=()))


def ignored(reason: str, cause: DecisionCause | None = None) -> SeriesDecision:
    """Return the decision that ignores a series for ``reason``."""
    return SeriesDecision(
        decision=Decision(outcome=DecisionOutcome.IGNORED, reason=reason, routes=(), trace=()), cause=cause
    )
