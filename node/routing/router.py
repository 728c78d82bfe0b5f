"""The router: finds complete series and records the decisions of ``node.routing.decisions``.

It meets the receiver and the workers only in the ledger. Completing a series, its decision and its jobs are one
transaction, guarded by what the decision was based on: an image that slips in between undoes nothing and loses nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import inf

from sqlalchemy import Engine

from node.actor import look_every, surviving
from node.config import Config
from node.config.order_values import OrderValues
from node.errors import AbsentFileError
from node.jobs.engine import Jobs
from node.ledger import DecisionCause, DecisionOutcome
from node.ledger.clock import clock_of
from node.ledger.clock_steps import pull_back
from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind, record_study_event
from node.ledger.order_keys import OrderKeys
from node.ledger.orders import has_orders, orders_of
from node.ledger.series import Series, complete_series, defer_completion, listed_series, receiving_series
from node.ledger.transitions import supersede_jobs
from node.ledger.workitems import renew_superseded
from node.log import about
from node.reasons import Reason, ReasonCode, reason, reason_text
from node.routing.body_regions import BodyRegions, needs_body_region, rules_that_ask
from node.routing.completeness import Arrival, Deferral, judge
from node.routing.decisions import Decider
from node.routing.examiner import Examiner, PendingExamination
from node.routing.late_orders import LateOrders
from node.routing.quiet_period import longest_quiet_seconds, shortest_quiet_seconds
from node.routing.series_examination import Examination, SeriesDecision, SeriesQuestion, ignored
from node.routing.series_state import known_of
from node.routing.study_decisions import Responsible, StudyDecider, for_everything
from node.routing.workitem_jobs import WorkitemJobs
from node.routing.worklist_wait import WorklistWait
from node.spool import Spool
from node.studies.characteristics import Characteristics

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
SETTLED_SECONDS = 3.0
"""Silence after which headers are looked at: they may state how many images there are."""


class Router:
    """Routes the studies that it is responsible for; where two routers are, the guard lets one of them win."""

    def __init__(
        self, config: Config, engine: Engine, spool: Spool, jobs: Jobs, is_responsible: Responsible = for_everything
    ) -> None:
        """``is_responsible``: for a study, by its Study Instance UID."""
        self._config = config
        self._engine = engine
        self._spool = spool
        self._decider = Decider(config, engine, spool, jobs)
        self._chooser = StudyDecider(config, engine, jobs, is_responsible)
        self._is_responsible = is_responsible
        self._shortest = shortest_quiet_seconds(config.rules, config.series)
        self._examiner = Examiner(spool, config.rules)
        self._body_regions = BodyRegions(spool)
        self._late_orders = LateOrders(engine, config.rules)
        self._requests = WorkitemJobs(config, engine, jobs, is_responsible)
        self._worklist = WorklistWait(config.orders.worklist, engine)
        self._deferrals: dict[tuple[str, str], Sequence[Deferral]] = {}
        self._awaited: dict[tuple[str, str], list[Reason]] = {}
        self._any_orders = False

    def run(self, stop: threading.Event) -> None:
        """Look every second until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "router", lambda: self.step(clock_of(self._engine)))

    def step(self, at: float) -> int:
        """Complete and route every series that is due at ``at``, decide what waited for others; return how many."""
        pull_back(self._engine, at)
        self._late_orders.step(at)
        with self._engine.connect() as connection:
            every = receiving_series(connection)
            receiving = [series for series in every if self._is_responsible(series.study_instance_uid)]
            listed = listed_series(connection) if receiving else set()
            self._any_orders = bool(receiving) and has_orders(connection)
        self._discard_others({(series.study_instance_uid, series.series_instance_uid) for series in receiving})
        completed = 0
        for series in receiving:
            if not self._is_due(series, at, listed):
                continue
            of = about(series.study_instance_uid, series=series.series_instance_uid)
            with of, surviving(f"router: series {series.series_instance_uid}"):
                if self._complete(series, at):
                    completed += 1
                    self._examiner.discard((series.study_instance_uid, series.series_instance_uid))
        self._requests.step()
        return completed + self._chooser.step(at)

    def _discard_others(self, receiving: Collection[tuple[str, str]]) -> None:
        """Discard what is known of series that are complete, or that another router has completed or now routes."""
        self._examiner.keep(receiving)
        self._body_regions.keep(receiving)
        self._deferrals = {key: of for key, of in self._deferrals.items() if key in receiving}
        self._awaited = {key: of for key, of in self._awaited.items() if key in receiving}

    def _is_due(self, series: Series, at: float, listed: set[tuple[str, str]]) -> bool:
        """Quiet for the shortest time that any rule has, on somebody's list, or just settled: it may state a count."""
        key = (series.study_instance_uid, series.series_instance_uid)
        silence = at - series.last_at
        unread = self._examiner.examined(key) < series.instances
        return silence >= self._shortest or key in listed or (silence >= SETTLED_SECONDS and unread)

    def _complete(self, series: Series, at: float) -> bool:
        study_uid, series_uid = series.study_instance_uid, series.series_instance_uid
        with self._engine.connect() as connection:
            known = known_of(connection, series)
        try:
            files = self._spool.all_readable(known.paths.values())
        except AbsentFileError as error:
            about = reason(ReasonCode.UNREAD_HEADERS, explanation=str(error))
            self._record_waiting(study_uid, series_uid, (Deferral(about=about, seconds=inf, until=inf),), at)
            return False
        question = SeriesQuestion(
            paths=files,
            origin=self._decider.origin(study_uid, series_uid, series.first_at),
            absent_positions=known.missing.positions,
            seen=self._body_regions.known((study_uid, series_uid), files),
        )
        question, examined = self._examine((study_uid, series_uid), question, at)
        if isinstance(examined, PendingExamination):
            about = reason(ReasonCode.UNREAD_HEADERS, explanation=examined.reason)
            wait = Deferral(about=about, seconds=examined.seconds, until=examined.until)
            self._record_waiting(study_uid, series_uid, (wait,), at)
            return False
        request = replace(examined.request, study_instance_uid=study_uid)
        decided = self._decider.without_rules(study_uid, series_uid, examined.references) or examined.decision
        is_of_one_patient = decided is examined.decision and decided.decision.outcome != DecisionOutcome.HELD
        order_wait = self._worklist.of(series, request, examined.study_date, at) if is_of_one_patient else None
        before_decision = order_wait or self._decider.wait_for_others(decided, series, at)
        arrival = Arrival(
            instances=len(known.paths),
            last_at=series.last_at,
            open_associations=len(known.senders),
            listings=known.listings,
            in_progress=known.in_progress,
            stated=examined.stated,
            missing=examined.missing,
            absent=replace(known.missing.absent, unseen=examined.unseen),
            unreadable=len(examined.unreadable),
            interruptions=known.missing.interruptions,
        )
        completion = judge(arrival, self._config.series, at, self._quiet_seconds(decided, question.seen))
        if completion.signal is None:
            self._record_waiting(study_uid, series_uid, completion.deferrals, at)
            return False
        last_wait = before_decision or self._body_region_wait(series, question, decided, at)
        if last_wait is not None:
            self._record_waiting(study_uid, series_uid, (last_wait,), at)
            return False
        if len(known.paths) < series.purged_images:  # a part must not take the place of results of the whole
            decided = ignored(reason(ReasonCode.IMAGES_PURGED, purged=series.purged_images, images=len(known.paths)))
        if known.discontinued:
            decided = ignored(
                reason(ReasonCode.OF_DISCONTINUED_STEP, step=known.discontinued), DecisionCause.DISCONTINUED
            )
        generation = series.generation + 1
        with begin_immediate(self._engine) as connection:
            if orders_of(connection, request).values != question.orders:  # one came in between
                return False
            if not complete_series(connection, series, completion.signal, at):
                return False
            for by in known.unrelated:
                record_study_event(
                    connection,
                    EventKind.SIGNAL_DISREGARDED,
                    at=at,
                    study_instance_uid=study_uid,
                    series_instance_uid=series_uid,
                    signal=by,
                )
            self._decider.record_request(connection, series_uid, request, at)
            supersede_jobs(connection, study_uid, series_uid, generation)
            renew_superseded(connection, study_uid, series_uid)
            self._decider.record(
                connection, study_uid, series_uid, generation=generation, decided=decided, completion=completion, at=at
            )
        decision = decided.decision
        logger.info(
            "series %s complete (%s), %s: %s",
            series_uid,
            reason_text(completion.signal),
            decision.outcome,
            reason_text(decision.reason),
        )
        return True

    def _examine(
        self, key: tuple[str, str], question: SeriesQuestion, at: float
    ) -> tuple[SeriesQuestion, Examination | PendingExamination]:
        """Examine a series with the orders that its headers name; return the question with them, and the answer."""
        question = replace(question, orders=self._orders_of(key, self._examiner.request(key)))
        examined = self._examiner.examine(key, question, at)
        if isinstance(examined, PendingExamination):
            return question, examined
        orders = self._orders_of(key, examined.request)
        if orders != question.orders:  # its headers were read for the first time
            question = replace(question, orders=orders)
            examined = self._examiner.examine(key, question, at)
        return question, examined

    def _body_region_wait(
        self, series: Series, question: SeriesQuestion, decided: SeriesDecision, at: float
    ) -> Deferral | None:
        """Return for what a complete series waits until its pixels are read, if a rule depends on what they show."""
        trace = decided.decision.trace
        if series.modality != "CT" or question.seen or not needs_body_region(trace, self._config.rules):
            return None
        return self._body_regions.wait((series.study_instance_uid, series.series_instance_uid), question, at)

    def _orders_of(self, key: tuple[str, str], request: OrderKeys) -> tuple[OrderValues, ...]:
        """Return the orders of a series. The first of all, when it comes during a look, delays it to the next one."""
        if not self._any_orders:
            return ()
        with self._engine.connect() as connection:
            return orders_of(connection, replace(request, study_instance_uid=key[0])).values

    def _record_waiting(self, study_uid: str, series_uid: str, deferrals: Sequence[Deferral], at: float) -> None:
        """Record once what a series waits for and until when; what is more than silence is also in the timeline."""
        key = (study_uid, series_uid)
        if self._deferrals.get(key) == deferrals:
            return
        waits = [
            {"about": deferral.about, "until": None if deferral.until == inf else deferral.until}
            | ({} if deferral.seconds == inf else {"seconds": deferral.seconds})
            for deferral in deferrals
        ]
        awaited = [deferral.about for deferral in deferrals if deferral.about["code"] != ReasonCode.LAST_IMAGE]
        is_news = bool(awaited) and awaited != self._awaited.get(key)
        with begin_immediate(self._engine) as connection:
            defer_completion(connection, study_uid, series_uid, waits, at=at, in_timeline=is_news)
        self._deferrals[key] = deferrals
        if is_news:
            self._awaited[key] = awaited

    def _quiet_seconds(self, decided: SeriesDecision, seen: Characteristics) -> float:
        names = {entry["rule"] for entry in decided.decision.trace if entry["matched"]}
        if not seen:  # what may match waits no longer for its pixels than it would for more images
            names |= {rule.name for rule in rules_that_ask(decided.decision.trace, self._config.rules)}
        matching = [rule for rule in self._config.rules if rule.name in names]
        return longest_quiet_seconds(
            matching, self._config.series, urgent=decided.urgent, ordered_urgent=decided.ordered_urgent
        )
