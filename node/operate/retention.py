"""Retention: purges files and rows of old studies; undelivered data is always kept.

``node.ledger.retention`` says which studies may go, and which rows go with them.
"""

from __future__ import annotations

import logging
import shutil
import threading

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.config import Config
from node.ledger.associations import purge_associations
from node.ledger.clock import clock_of
from node.ledger.clock_steps import AHEAD_SECONDS, Steady
from node.ledger.commitments import purge_transactions
from node.ledger.engine import begin_immediate
from node.ledger.holdings import folder_of, purge_holdings
from node.ledger.procedure_steps import purge_steps
from node.ledger.refusals import purge_refusals
from node.ledger.retention import purge_study, studies_without_event_since
from node.ledger.study_record import study_state
from node.log import about, delete_study_log, logged_studies
from node.operate.records.recorder import Recorder, is_recorded
from node.spool import Spool

logger = logging.getLogger(__name__)

POLL_SECONDS = 3600.0


class Retention:
    """Purges old studies once an hour."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._days = config.retention.days
        self._engine = engine
        self._spool = spool
        self._recorder = Recorder(config, engine, spool) if config.records.years else None
        self._steady = Steady(clock_of(engine))
        self._set_forward_at: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Look every hour until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "retention", lambda: self.look(clock_of(self._engine)))

    def look(self, at: float) -> list[str]:
        """``step``, but no study is purged because the clock was set forward: it is as old as it was before.

        After ``[retention] days`` whatever was received before is as old as the clock says.
        """
        steady = self._steady()
        if at - steady > AHEAD_SECONDS and self._set_forward_at is None:
            self._set_forward_at = steady
            logger.warning(
                "the clock was set forward by %.0f s; for %g days ages are counted without", at - steady, self._days
            )
        if self._set_forward_at is not None and steady - self._set_forward_at > self._days * 86400:
            self._steady, self._set_forward_at = Steady(at), None
        return self.step(min(at, self._steady()))

    def step(self, at: float) -> list[str]:
        """Purge every study whose last event is older than ``[retention] days``; return their UIDs."""
        before = at - self._days * 86400
        with self._engine.connect() as connection:
            old = studies_without_event_since(connection, before)
        purged = []
        for study in old:
            with surviving(f"retention: study {study}"):  # one that cannot be purged keeps no other
                if self._purge(study, at):
                    purged.append(study)
        with begin_immediate(self._engine) as connection:
            purge_steps(connection, before)
            purge_transactions(connection, before)
            purge_refusals(connection, before)
        with begin_immediate(self._engine) as connection:
            purge_associations(connection, before)
        for study in logged_studies(self._spool.logs):  # a line that came while its study was purged
            if not self._spool.holds_study(study):
                delete_study_log(self._spool.logs, study)
        return purged

    def _purge(self, study: str, at: float) -> bool:
        """Remove rows and files inside one transaction: the receiver, whose rows wait for it, then sees what is gone.

        No row of an image is written between the question and the deletes. A crash before the commit leaves rows
        without files, and the next look finishes the work. A study whose decision record cannot be written stays.
        """
        if self._recorder is not None:
            self._recorder.record(study)
        with begin_immediate(self._engine) as connection:
            if self._recorder is not None and not is_recorded(connection, study, study_state(connection, study)):
                return False  # something happened to it at this moment
            purged = purge_study(connection, study, at - self._days * 86400)
            if purged is None:
                return False
            of_jobs = (f"{root}/{job_id}" for job_id in purged.jobs for root in ("results", "work"))
            purge_holdings(connection, {*map(folder_of, purged.paths), *of_jobs})
            self._spool.purge(purged.paths)
        for job_id in purged.jobs:
            shutil.rmtree(self._spool.absolute(f"results/{job_id}"), ignore_errors=True)
        with about(study):
            logger.info("study %s purged after %g days: %d files", study, self._days, len(purged.paths))
        delete_study_log(self._spool.logs, study)
        return True
