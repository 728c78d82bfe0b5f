"""Retention: purges images, results and whole studies when their time is over; undelivered data is always kept.

``node.operate.retention_rules`` says what is due, ``node.ledger.retention`` removes the rows.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.config import Config
from node.ledger.associations import purge_associations
from node.ledger.clock import clock_of
from node.ledger.clock_steps import AHEAD_SECONDS, Steady
from node.ledger.commitments import purge_transactions
from node.ledger.engine import begin_immediate
from node.ledger.fetch_lists import purge_fetches
from node.ledger.holdings import folder_of, purge_holdings
from node.ledger.order_messages import purge_messages
from node.ledger.orders import purge_orders
from node.ledger.patient_changes import purge_changes
from node.ledger.planned_purges import StoredStudy, in_portions
from node.ledger.procedure_steps import purge_steps
from node.ledger.refusals import purge_refusals
from node.ledger.retention import (
    PurgedFiles,
    locked_study,
    purge_images,
    purge_results,
    purge_study,
    result_sizes,
    studies_of_pipelines,
    studies_without_event_since,
)
from node.ledger.study_record import study_state
from node.log import about, delete_study_log, logged_studies
from node.operate.records.recorder import Recorder, is_recorded
from node.operate.result_quota import over_quota, yields_to_quota
from node.operate.retention_rules import DAY_SECONDS, PlannedPurge, PurgeKind, RetentionRules
from node.spool import Spool

logger = logging.getLogger(__name__)

POLL_SECONDS = 3600.0
FIRST_SECONDS = 600.0
"""From the start to the first look: a clock that was wrong when the machine started is set by then."""


class Retention:
    """Purges what is due once an hour."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._rules = RetentionRules(config)
        self._order_days = config.orders.days
        self._engine = engine
        self._spool = spool
        self._recorder = Recorder(config, engine, spool) if config.records.years else None
        self._steady = Steady(clock_of(engine))
        self._set_forward_at: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Look soon after the start and then every hour, until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "retention", lambda: self.look(clock_of(self._engine)), first=FIRST_SECONDS)

    def look(self, at: float) -> list[str]:
        """``step``, but no study is purged because the clock was set forward: it is as old as it was before.

        After the longest time that is configured whatever was received before is as old as the clock says.
        """
        steady = self._steady()
        if at - steady > AHEAD_SECONDS and self._set_forward_at is None:
            self._set_forward_at = steady
            ahead, days = at - steady, self._rules.longest_days
            logger.warning("the clock was set forward by %.0f s; for %g days ages are counted without", ahead, days)
        longest = self._rules.longest_days * DAY_SECONDS
        if self._set_forward_at is not None and steady - self._set_forward_at > longest:
            self._steady, self._set_forward_at = Steady(at), None
        return self.step(min(at, self._steady()))

    def step(self, at: float) -> list[str]:
        """Purge everything that is due at a time; return the UIDs of the studies that are gone."""
        with self._engine.connect() as connection:
            old = studies_without_event_since(connection, at - self._rules.shortest_days * DAY_SECONDS)
            due = [stored.study_instance_uid for stored in in_portions(connection, old) if self._rules.due(stored, at)]
        purged = []
        for study in due:
            with surviving(f"retention: study {study}"):  # one that cannot be purged keeps no other
                if self._purge(study, at):
                    purged.append(study)
        self._purge_over_quota(at)
        before = at - self._rules.longest_days * DAY_SECONDS
        with begin_immediate(self._engine) as connection:
            purge_steps(connection, before)
            purge_transactions(connection, before)
            purge_refusals(connection, before)
        with begin_immediate(self._engine) as connection:
            unused_since = at - self._order_days * DAY_SECONDS
            purge_orders(connection, unused_since)
            purge_messages(connection, at, unused_since)
            purge_changes(connection, unused_since)
            purge_fetches(connection, unused_since)
        with begin_immediate(self._engine) as connection:
            purge_associations(connection, before)
        for study in logged_studies(self._spool.logs):  # a line that came while its study was purged
            if not self._spool.holds_study(study):
                delete_study_log(self._spool.logs, study)
        return purged

    def _purge_over_quota(self, at: float) -> None:
        """Purge results of pipelines that occupy more than their quota."""
        quotas = self._rules.quotas
        if not quotas:
            return
        with self._engine.connect() as connection:
            sizes = result_sizes(connection, quotas)
            if all(size <= quotas[name] for name, size in sizes.items()):
                return
            studies = studies_of_pipelines(connection, quotas)
            over = over_quota(quotas, in_portions(connection, studies), at)
        by_study: dict[str, list[PlannedPurge]] = {}
        for purge in over:
            by_study.setdefault(purge.study_instance_uid, []).append(purge)
        for study, planned in by_study.items():
            with surviving(f"retention: study {study}"):
                self._purge(study, at, planned)

    def _purge(self, study: str, at: float, beyond: Sequence[PlannedPurge] = ()) -> bool:
        """Purge what is due of a study, or results that a quota takes; return whether the study is gone.

        Rows and files go inside one transaction: the receiver, whose rows wait for it, then sees what is gone. No row
        of an image is written between the question and the deletes. A crash before the commit leaves rows without
        files, and the next look finishes the work. A study whose decision record cannot be written stays.
        """
        if self._recorder is not None:
            self._recorder.record(study)
        with begin_immediate(self._engine) as connection:
            if self._recorder is not None and not is_recorded(connection, study, study_state(connection, study)):
                return False  # something happened to it at this moment
            stored = locked_study(connection, study)
            if stored is None:
                return False
            due = _still_over_quota(stored, beyond, at) if beyond else self._rules.due(stored, at)
            purged = [_purge_rows(connection, purge) for purge in due]
            paths = [path for files in purged for path in files.paths]
            jobs = [job_id for files in purged for job_id in files.jobs]
            of_jobs = (f"{root}/{job_id}" for job_id in jobs for root in ("results", "work"))
            purge_holdings(connection, {*map(folder_of, paths), *of_jobs})
            self._spool.purge(paths)
        for job_id in jobs:
            shutil.rmtree(self._spool.absolute(f"results/{job_id}"), ignore_errors=True)
        with about(study):
            for purge, files in zip(due, purged, strict=True):
                of = purge.job_id or purge.series_instance_uid or study
                logger.info("%s of %s purged by %s: %d files", purge.kind, of, purge.why, len(files.paths))
        if not any(purge.kind == PurgeKind.STUDY for purge in due):
            return False
        delete_study_log(self._spool.logs, study)
        return True


def _still_over_quota(stored: StoredStudy, planned: Sequence[PlannedPurge], at: float) -> list[PlannedPurge]:
    """Of what a quota takes, that of which nothing has become pending since."""
    free = {result.job_id for result in stored.results if yields_to_quota(stored, result, at)}
    return [purge for purge in planned if purge.job_id in free]


def _purge_rows(connection: sa.Connection, purge: PlannedPurge) -> PurgedFiles:
    match purge.kind:
        case PurgeKind.IMAGES:
            return purge_images(connection, purge.study_instance_uid, purge.series_instance_uid)
        case PurgeKind.RESULTS:
            return purge_results(connection, purge.job_id)
    return purge_study(connection, purge.study_instance_uid)
