"""Applies the stop rules of pipelines to the verdicts in the ledger, and ends the sending of results."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Connection, Engine

from node.actor import look_every
from node.config import Config, StopRule
from node.feedback.stop_rule import stop_reason
from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.shadow import quality_stops, stop_sending
from node.ledger.states import NoticeKind
from node.ledger.verdict_counts import judged_analyses
from node.reasons import Reason, reason_text

logger = logging.getLogger(__name__)

POLL_SECONDS = 10.0


class StopWatch:
    """Looks at the verdicts on every pipeline with a stop rule; of two, one records the stop."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._engine = engine
        self._us = f"{config.ae.title.strip()} stop rule"
        self._rules = {name: table.stop for name, table in config.pipelines.items() if table.stop is not None}

    def run(self, stop: threading.Event) -> None:
        """Look every ten seconds until ``stop`` is set."""
        if self._rules:
            look_every(POLL_SECONDS, stop, "stop rules", self.step)

    def step(self) -> list[str]:
        """Stop the pipelines whose rules have tripped; return their names."""
        with self._engine.connect() as connection:
            tripped = {name: self._tripped(connection, name, rule) for name, rule in self._rules.items()}
        return [name for name, why in tripped.items() if why is not None and self._stop(name, why)]

    def _tripped(self, connection: Connection, name: str, rule: StopRule) -> Reason | None:
        last = quality_stops(connection).get(name)
        if last is not None and last.resumed_at is None:
            return None
        since = last.resumed_at if last is not None and last.resumed_at is not None else 0.0
        return stop_reason(rule, judged_analyses(connection, name, since))

    def _stop(self, name: str, why: Reason) -> bool:
        text = f"results of pipeline {name} are sent to no destination: {reason_text(why)}"
        with begin_immediate(self._engine) as connection:
            if not stop_sending(connection, name, why):
                return False
            add_notice(connection, NoticeKind.ACT, who=self._us, detail=text)
        logger.error("%s", text)
        return True
