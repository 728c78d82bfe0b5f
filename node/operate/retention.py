"""Forgetting: deletes the files and rows of studies that nobody is owed anymore, never anything undelivered."""

from __future__ import annotations

import logging
import shutil
import threading

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.config import Config
from node.ledger.clock_steps import AHEAD_SECONDS, Steady
from node.ledger.commitments import purge_transactions
from node.ledger.engine import begin_immediate, now
from node.ledger.instances import hold_receipts
from node.ledger.procedure_steps import purge_steps
from node.ledger.refusals import purge_refusals
from node.ledger.tables import (
    candidate,
    conflict,
    decision,
    delivery,
    delivery_instance,
    delivery_kind,
    event,
    instance,
    job,
    original,
    refusal,
    replaced,
    result,
    series,
)
from node.log import about, delete_study_log
from node.spool import Spool

logger = logging.getLogger(__name__)

POLL_SECONDS = 3600.0


class Retention:
    """Looks once an hour."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._days = config.retention.days
        self._engine = engine
        self._spool = spool
        self._steady = Steady(now())
        self._set_forward_at: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Look every hour until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "retention", self.look)

    def look(self, at: float) -> list[str]:
        """``step``, but no study is forgotten because the clock was set forward: it is as old as it was before.

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
        """Forget every study whose last event is older than ``[retention] days``; return their UIDs."""
        before = at - self._days * 86400
        last = sa.union_all(  # a study may have nothing but images whose SOP Instance UIDs another study used first
            sa.select(series.c.study_instance_uid, series.c.last_at.label("at")),
            sa.select(conflict.c.study_instance_uid, conflict.c.received_at),
        ).subquery()
        with self._engine.connect() as connection:
            old = connection.scalars(
                sa.select(last.c.study_instance_uid)
                .group_by(last.c.study_instance_uid)
                .having(sa.func.max(last.c.at) < before)
                .order_by(last.c.study_instance_uid)
            ).all()
        forgotten = []
        for study in old:
            with surviving(f"retention: study {study}"):  # one that cannot be purged keeps no other
                if self._purge(study, at):
                    forgotten.append(study)
        with begin_immediate(self._engine) as connection:
            purge_steps(connection, before)
            purge_transactions(connection, before)
            purge_refusals(connection, before)
        return forgotten

    def _purge(self, study: str, at: float) -> bool:
        """Rows and files inside one transaction: the receiver, whose rows wait for it, then sees what is gone.

        No row of an image is written between the question and the deletes. A crash before the commit leaves rows
        without files, and the next look finishes the work.
        """
        jobs = sa.select(job.c.id).where(job.c.study_instance_uid == study)
        with begin_immediate(self._engine) as connection:
            hold_receipts(connection)
            connection.execute(jobs.with_for_update())  # one that an operator retries meanwhile is not deleted
            before = at - self._days * 86400
            news = (  # since the study was found to be old
                sa.select(series.c.study_instance_uid).where(
                    series.c.study_instance_uid == study,
                    sa.or_(series.c.state != "COMPLETE", series.c.last_at >= before),
                ),
                sa.select(conflict.c.study_instance_uid).where(
                    conflict.c.study_instance_uid == study, conflict.c.received_at >= before
                ),
            )
            busy = connection.scalar(sa.union_all(*news).limit(1))
            owed = connection.scalar(
                sa.select(sa.func.count())
                .select_from(job)
                .where(
                    job.c.study_instance_uid == study,
                    sa.or_(job.c.state.in_(("SCHEDULED", "IN PROGRESS")), job.c.updated_at >= before),
                )
            )
            if busy or owed:
                return False
            folders = [self._spool.absolute(f"results/{one}") for one in connection.scalars(jobs)]
            kept = connection.scalars(
                sa.select(instance.c.path)
                .where(instance.c.study_instance_uid == study)
                .union_all(sa.select(conflict.c.path).where(conflict.c.study_instance_uid == study))
            ).all()
            for table in (delivery_instance, delivery_kind, delivery, original, replaced, result):
                connection.execute(sa.delete(table).where(table.c.job_id.in_(jobs)))
            for table in (job, decision, candidate, event, conflict, refusal, instance, series):
                connection.execute(sa.delete(table).where(table.c.study_instance_uid == study))
            self._spool.forget(kept)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        with about(study):
            logger.info("study %s forgotten after %g days: %d files", study, self._days, len(kept))
        delete_study_log(self._spool.logs, study)
        return True
