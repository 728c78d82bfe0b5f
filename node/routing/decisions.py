"""Decisions on complete series, recorded in the transaction that completes the series."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

from sqlalchemy import Connection, Engine

from node.config import Config
from node.jobs.engine import Jobs
from node.ledger.associations import senders_of
from node.ledger.candidates import record_candidates
from node.ledger.decisions import NewDecision, record_decision
from node.ledger.jobs import NewJob
from node.ledger.order_keys import OrderKeys
from node.ledger.orders import has_messages, record_request
from node.ledger.reader_queries import is_asked_for
from node.ledger.results import is_of_result
from node.ledger.series import Series
from node.reasons import ReasonCode, reason
from node.result_parts import ResultReferences
from node.routing.completeness import Completion, Deferral
from node.routing.fetched_routes import behind_others, goes_last
from node.routing.prerequisites import with_prerequisites
from node.routing.promoted_routes import promoted_routes
from node.routing.returned_routes import ReturnedDecision, ReturnedRoutes
from node.routing.rules import Origin
from node.routing.series_examination import SeriesDecision, ignored
from node.spool import Spool


class Decider:
    """Knows what the ledger says of a series, and records decisions and jobs."""

    def __init__(self, config: Config, engine: Engine, spool: Spool, jobs: Jobs) -> None:
        self._config = config
        self._engine = engine
        self._jobs = jobs
        self._returned = ReturnedRoutes(config, engine, spool)

    def origin(self, study_uid: str, series_uid: str, first_at: float) -> Origin:
        """Where and when a series came from; ``first_at``: when its first image was stored."""
        with self._engine.connect() as connection:
            return Origin.of(senders_of(connection, study_uid, series_uid), first_at, self._config.destinations)

    def without_rules(
        self, study_uid: str, series_uid: str, references: Collection[ResultReferences]
    ) -> SeriesDecision | None:
        """Return the decision on a series that no rule is asked about; ``None`` for all others.

        This node has made it, or has asked an archive for it to read verdicts, or it is a result that comes back:
        nothing of it is analysed or sent on. ``references``: what its objects name.
        """
        with self._engine.connect() as connection:
            if is_of_result(connection, series_uid):
                return ignored(reason(ReasonCode.OWN_RESULT))
            if is_asked_for(connection, study_uid, series_uid):
                return ignored(reason(ReasonCode.ASKED_FOR_VERDICTS))
        return self._returned.decision(study_uid, series_uid, references)

    def wait_for_others(self, decided: SeriesDecision, series: Series, at: float) -> Deferral | None:
        """Return until when a series waits for others of its study before its job is made; see ``ReturnedRoutes``."""
        return self._returned.wait_for_others(series, at) if isinstance(decided, ReturnedDecision) else None

    def record_request(self, connection: Connection, series_uid: str, request: OrderKeys, at: float) -> None:
        """Keep the numbers of the order where orders may come; other sites keep nothing of patients in the ledger."""
        if self._config.orders.are_expected or has_messages(connection):
            record_request(connection, series_uid, request, at)

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
                incomplete=completion.incomplete,
                caveat=completion.caveat,
                characteristics={
                    name: asdict(characteristic) for name, characteristic in (decided.characteristics or {}).items()
                }
                or None,
            ),
        )
        free = {rule.name for rule in self._config.rules if rule.priority is None}
        last = goes_last(connection, study_uid, ordered_urgent=decided.ordered_urgent)
        weights = [
            asdict(weight)
            | {"urgent": not last and (decided.urgent or (decided.ordered_urgent and weight.rule in free))}
            for weight in decided.weights
        ]
        record_candidates(connection, study_uid, series_uid, generation=generation, at=at, weights=weights)
        routes = promoted_routes(connection, study_uid, series_uid, decision.routes)
        for route in with_prerequisites(behind_others(routes) if last else routes, self._config):
            new = NewJob(
                study_instance_uid=study_uid,
                series_instance_uid=series_uid,
                generation=generation,
                **asdict(route),
            )
            self._jobs.enqueue(connection, new)
        if isinstance(decided, ReturnedDecision):
            for new in decided.jobs:
                self._jobs.enqueue(connection, new)
