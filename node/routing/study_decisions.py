"""Decisions that need the whole study: selection of the best series, and series that wait for companions.

The router leaves such series as rows of ``candidate``; here they wait until their rule has what it needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict

from sqlalchemy import Engine

from node.config import Config, Rule
from node.jobs.engine import Jobs
from node.ledger.candidates import StoredCandidate, candidates_of, decide_candidate, waiting_rules
from node.ledger.decisions import revise_decision, trace_of
from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind, record_study_event
from node.ledger.jobs import NewJob
from node.log import about
from node.outcome import Outcome
from node.reasons import Reason, ReasonCode, reason
from node.routing.fetched_routes import behind_others, goes_last
from node.routing.prerequisites import with_prerequisites
from node.routing.promoted_routes import promoted_routes
from node.routing.region import Region
from node.routing.rules import routes_of, sum_up
from node.routing.selection_wait import may_choose
from node.routing.series_selection import Candidate, SelectionResult, settle
from node.routing.study_outlook import outlook_of

logger = logging.getLogger(__name__)


Responsible = Callable[[str], bool]
"""Whether this router is responsible for a study: ``node.membership.Membership.is_responsible``."""


def for_everything(_study_uid: str) -> bool:
    """Return that a router is responsible, as the only one is."""
    return True


class StudyDecider:
    """Settles what waits in the studies of this router; of two the guard would let one win."""

    def __init__(
        self, config: Config, engine: Engine, jobs: Jobs, is_responsible: Responsible = for_everything
    ) -> None:
        self._config = config
        self._engine = engine
        self._jobs = jobs
        self._is_responsible = is_responsible
        self._awaited: dict[tuple[str, str], Reason] = {}

    def step(self, at: float) -> int:
        """Decide on every waiting series whose rule has what it waits for at ``at``; return how many."""
        rules = {rule.name: rule for rule in self._config.rules}
        with self._engine.connect() as connection:
            waiting = [row for row in waiting_rules(connection) if self._is_responsible(row.study_instance_uid)]
        known = {(row.study_instance_uid, row.rule) for row in waiting}
        self._awaited = {key: awaited for key, awaited in self._awaited.items() if key in known}
        return sum(self._settle(row.study_instance_uid, row.rule, rules.get(row.rule), at) for row in waiting)

    def _settle(self, study_uid: str, name: str, rule: Rule | None, at: float) -> int:
        with self._engine.connect() as connection:
            stored = candidates_of(connection, study_uid, name)
            own = [row for row in stored if not row.companion]
            outlook = outlook_of(connection, study_uid, {row.modality for row in own})
        candidates = [_candidate(row) for row in stored]
        if rule is None:
            results = tuple(
                SelectionResult(
                    series_instance_uid=candidate.series_instance_uid,
                    generation=candidate.generation,
                    chosen=False,
                    note=reason(ReasonCode.RULE_REMOVED),
                )
                for candidate in candidates
                if not candidate.companion and not candidate.decided
            )
        else:
            urgent = any(row.urgent for row in own)
            readiness = may_choose(rule, outlook, self._config.series, at, urgent=urgent)
            self._record_waiting(study_uid, name, readiness.awaited if rule.prefer else None, at)
            results = settle(rule, candidates, ready=readiness.ready, at=at, because=readiness.reason)
        return sum(self._record(study_uid, name, rule, result, at) for result in results)

    def _record_waiting(self, study_uid: str, rule: str, awaited: Reason | None, at: float) -> None:
        """Record in the timeline, once, which sender or procedure step is waited for."""
        if self._awaited.get((study_uid, rule)) == awaited:
            return
        if awaited is not None:
            with begin_immediate(self._engine) as connection:
                record_study_event(
                    connection, EventKind.RULE_WAITING, at=at, study_instance_uid=study_uid, rule=rule, awaited=awaited
                )
            self._awaited[study_uid, rule] = awaited
        else:
            del self._awaited[study_uid, rule]

    def _record(self, study_uid: str, name: str, rule: Rule | None, result: SelectionResult, at: float) -> bool:
        key, generation = (study_uid, result.series_instance_uid), result.generation
        with begin_immediate(self._engine) as connection:
            urgent = decide_candidate(connection, *key, rule=name, generation=generation, chosen=result.chosen, at=at)
            if urgent is None:
                return False
            trace = trace_of(connection, *key, generation)
            for entry in trace:
                if entry["rule"] == name and "companion" not in entry:
                    entry |= {"chosen": result.chosen, "note": result.note}
            outcome, why = sum_up(trace)
            revise_decision(connection, *key, generation, outcome=outcome, reason=why, trace=trace, at=at)
            record_study_event(
                connection,
                EventKind.DECIDED,
                at=at,
                study_instance_uid=study_uid,
                series_instance_uid=result.series_instance_uid,
                outcome=outcome,
                reason=result.note or why,
            )
            for uid in result.chosen_before:
                record_study_event(
                    connection,
                    EventKind.BETTER_SERIES,
                    at=at,
                    study_instance_uid=study_uid,
                    series_instance_uid=uid,
                    rule=name,
                    better=result.series_instance_uid,
                )
            routes = routes_of(rule, urgent=urgent) if rule is not None and result.chosen else []
            routes = promoted_routes(connection, *key, routes)
            last = goes_last(connection, study_uid, ordered_urgent=urgent)
            for route in with_prerequisites(behind_others(routes) if last else routes, self._config):
                new = NewJob(
                    study_instance_uid=study_uid,
                    series_instance_uid=result.series_instance_uid,
                    generation=generation,
                    **asdict(route),
                    companions=result.companions,
                    outcome=Outcome.NOT_APPLICABLE if result.unsuitable else None,
                    reason=result.unsuitable,
                )
                self._jobs.enqueue(connection, new)
        with about(study_uid, series=result.series_instance_uid):
            logger.info("series %s: %s by rule %r", result.series_instance_uid, outcome, name)
        return True


def _candidate(stored: StoredCandidate) -> Candidate:
    return Candidate(
        series_instance_uid=stored.series_instance_uid,
        generation=stored.generation,
        companion=stored.companion,
        marks=stored.marks,
        complete_at=stored.complete_at,
        complete=stored.complete,
        decided=stored.decided,
        chosen=stored.chosen,
        region=Region(**stored.region) if stored.region else None,
    )
