"""Decisions that need the whole study: selection of the best series, and series that wait for companions.

The router leaves such series as rows of ``candidate``; here they wait until their rule has what it needs.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

import sqlalchemy as sa

from node.config import Config, Rule
from node.jobs.engine import Jobs
from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind, record_study_event
from node.ledger.jobs import NewJob
from node.ledger.tables import candidate, decision, series
from node.log import about
from node.routing.region import Region
from node.routing.rules import routes_of, sum_up
from node.routing.series_selection import Candidate, SelectionResult, settle
from node.routing.study_outlook import outlook_of
from node.routing.waiting import may_choose

logger = logging.getLogger(__name__)


class StudyDecider:
    """Settles what waits; a second one does no harm, because the guard lets one of them win."""

    def __init__(self, config: Config, engine: sa.Engine, jobs: Jobs) -> None:
        self._config = config
        self._engine = engine
        self._jobs = jobs
        self._entry: dict[tuple[str, str], str] = {}

    def step(self, at: float) -> int:
        """Decide on every waiting series whose rule has what it waits for at ``at``; return how many."""
        rules = {rule.name: rule for rule in self._config.rules}
        with self._engine.connect() as connection:
            waiting = connection.execute(
                sa.select(candidate.c.study_instance_uid, candidate.c.rule)
                .where(candidate.c.companion == "", candidate.c.decided_at.is_(None))
                .distinct()
            ).all()
        return sum(self._settle(row.study_instance_uid, row.rule, rules.get(row.rule), at) for row in waiting)

    def _settle(self, study_uid: str, name: str, rule: Rule | None, at: float) -> int:
        with self._engine.connect() as connection:
            candidates = _candidates(connection, study_uid, name)
            modalities, urgent = _kind(connection, study_uid, name)
            outlook = outlook_of(connection, study_uid, modalities)
        if rule is None:
            verdicts = tuple(
                SelectionResult(
                    series_instance_uid=one.series_instance_uid,
                    generation=one.generation,
                    chosen=False,
                    note="not chosen: the rule is no longer in config.toml",
                )
                for one in candidates
                if not one.companion and not one.decided
            )
        else:
            readiness = may_choose(rule, outlook, self._config.series, at, urgent=urgent)
            self._tell(study_uid, name, "" if readiness.ready or not rule.prefer else readiness.awaited, at)
            verdicts = settle(rule, candidates, ready=readiness.ready, at=at, because=readiness.reason)
        return sum(self._record(study_uid, name, rule, verdict, at) for verdict in verdicts)

    def _tell(self, study_uid: str, rule: str, awaited: str, at: float) -> None:
        """Say in the timeline, once, which sender or procedure step is waited for."""
        if self._entry.get((study_uid, rule), "") == awaited:
            return
        if awaited:
            with begin_immediate(self._engine) as connection:
                record_study_event(
                    connection, EventKind.RULE_WAITING, at=at, study_instance_uid=study_uid, rule=rule, awaited=awaited
                )
            self._entry[study_uid, rule] = awaited
        else:
            del self._entry[study_uid, rule]

    def _record(self, study_uid: str, name: str, rule: Rule | None, verdict: SelectionResult, at: float) -> bool:
        where = {"study_instance_uid": study_uid, "series_instance_uid": verdict.series_instance_uid}
        generation = verdict.generation
        with begin_immediate(self._engine) as connection:
            mine = sa.and_(*(candidate.c[key] == uid for key, uid in where.items()))
            row = connection.execute(
                sa.update(candidate)
                .where(
                    mine,
                    candidate.c.rule == name,
                    candidate.c.companion == "",
                    candidate.c.generation == generation,
                    candidate.c.decided_at.is_(None),
                )
                .values(decided_at=at, chosen=verdict.chosen)
                .returning(candidate.c.urgent)
            ).first()
            if row is None:  # an image came in between, or another router was faster
                return False
            this = sa.and_(*(decision.c[key] == uid for key, uid in where.items()), decision.c.generation == generation)
            trace = [dict(entry) for entry in connection.scalar(sa.select(decision.c.trace).where(this)) or ()]
            for entry in trace:
                if entry["rule"] == name and "companion" not in entry:
                    entry |= {"chosen": verdict.chosen, "note": verdict.note}
            outcome, reason = sum_up(trace)
            connection.execute(
                sa.update(decision).where(this).values(outcome=outcome, reason=reason, trace=trace, decided_at=at)
            )
            record_study_event(
                connection, EventKind.DECIDED, at=at, **where, outcome=outcome, reason=verdict.note or reason
            )
            for uid in verdict.chosen_before:
                record_study_event(
                    connection,
                    EventKind.BETTER_SERIES,
                    at=at,
                    study_instance_uid=study_uid,
                    series_instance_uid=uid,
                    rule=name,
                    better=verdict.series_instance_uid,
                )
            for route in routes_of(rule, urgent=row.urgent) if rule is not None and verdict.chosen else ():
                new = NewJob(
                    study_instance_uid=study_uid,
                    series_instance_uid=verdict.series_instance_uid,
                    generation=generation,
                    **asdict(route),
                    companions=verdict.companions,
                    outcome="not applicable" if verdict.unsuitable else None,
                    reason=verdict.unsuitable or None,
                )
                self._jobs.enqueue(connection, new)
        with about(study_uid):
            logger.info("series %s: %s by rule %r", verdict.series_instance_uid, outcome, name)
        return True


def _kind(connection: sa.Connection, study_uid: str, rule: str) -> tuple[set[str], bool]:
    """Modalities of the series that match a rule, and whether any of them is of a STAT request."""
    rows = connection.execute(
        sa.select(series.c.modality, candidate.c.urgent)
        .join(candidate, candidate.c.series_instance_uid == series.c.series_instance_uid)
        .where(
            series.c.study_instance_uid == study_uid,
            candidate.c.study_instance_uid == study_uid,
            candidate.c.rule == rule,
            candidate.c.companion == "",
        )
    ).all()
    return {row.modality for row in rows}, any(row.urgent for row in rows)


def _candidates(connection: sa.Connection, study_uid: str, rule: str) -> list[Candidate]:
    rows = connection.execute(
        sa.select(candidate, series.c.state)
        .join(
            series,
            sa.and_(
                series.c.study_instance_uid == candidate.c.study_instance_uid,
                series.c.series_instance_uid == candidate.c.series_instance_uid,
            ),
        )
        .where(candidate.c.study_instance_uid == study_uid, candidate.c.rule == rule)
    )
    return [
        Candidate(
            series_instance_uid=row.series_instance_uid,
            generation=row.generation,
            companion=row.companion,
            marks=tuple((float(number), str(words)) for number, words in row.marks),
            complete_at=row.complete_at,
            complete=row.state == "COMPLETE",
            decided=row.decided_at is not None,
            chosen=bool(row.chosen),
            region=Region(**row.region) if row.region else None,
        )
        for row in rows
    ]
