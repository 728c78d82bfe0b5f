"""The router: looks for series that are complete; ``node.jobs.decide`` says what happens to them.

It meets the receiver and the workers only in the ledger. Completing a series, its decision and its jobs are one
transaction, guarded by what the decision was based on: an image that slips in between undoes nothing and loses nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa
from pydicom import Dataset

from node.config import Config
from node.errors import InputError
from node.jobs.choose import Chooser
from node.jobs.decide import Decider
from node.jobs.engine import Jobs
from node.ledger.engine import begin_immediate, now
from node.ledger.tables import association, event, instance, series
from node.ledger.transitions import supersede_jobs
from node.spool import Spool
from node.studies.completeness import Arrival, judge
from node.studies.grid import describe
from node.studies.source import read_header

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class Router:
    """One per node; a second one does no harm, because the guard lets one of them win."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool, jobs: Jobs) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._decider = Decider(config, engine, jobs)
        self._chooser = Chooser(config, engine, jobs)
        self._waiting: dict[tuple[str, str], tuple[int, list[Dataset]]] = {}

    def run(self, stop: threading.Event) -> None:
        """Look every second until ``stop`` is set."""
        while not stop.wait(POLL_SECONDS):
            try:
                self.step(now())
            except Exception:  # the actor's own loop: the next look may succeed, nothing is half done
                logger.exception("router: this look failed; trying again")

    def step(self, at: float) -> int:
        """Complete and route every series that is due at ``at``, decide what waited for others; return how many."""
        with self._engine.connect() as connection:
            due = connection.execute(
                sa.select(series).where(
                    series.c.state == "RECEIVING", series.c.last_at <= at - self._config.series.quiet_seconds
                )
            ).all()
        return sum(self._complete(row, at) for row in due) + self._chooser.step(at)

    def _complete(self, row: sa.Row[tuple[object, ...]], at: float) -> bool:
        study_uid, series_uid = str(row.study_instance_uid), str(row.series_instance_uid)
        belongs = sa.and_(instance.c.study_instance_uid == study_uid, instance.c.series_instance_uid == series_uid)
        with self._engine.connect() as connection:
            senders = connection.scalar(
                sa.select(sa.func.count(sa.distinct(association.c.id)))
                .join(instance, instance.c.association_id == association.c.id)
                .where(belongs, association.c.closed_at.is_(None))
            )
            paths = connection.scalars(sa.select(instance.c.path).where(belongs)).all()
        arrival = Arrival(instances=len(paths), last_at=row.last_at, open_associations=senders or 0)
        headers: list[Dataset] = []
        if not senders:
            headers = self._headers((study_uid, series_uid), paths)
            grid = describe(headers) if headers else None
            arrival = replace(arrival, missing=grid.fault if grid is not None and grid.gap else "")
        completion = judge(arrival, self._config.series, at)
        if not completion.complete:
            return False
        ruling = self._decider.decide(study_uid, series_uid, row.first_at, headers)
        generation = row.generation + 1
        with begin_immediate(self._engine) as connection:
            taken = connection.execute(
                sa.update(series)
                .where(
                    series.c.study_instance_uid == study_uid,
                    series.c.series_instance_uid == series_uid,
                    series.c.state == "RECEIVING",
                    series.c.instances == row.instances,
                    series.c.last_at == row.last_at,
                )
                .values(state="COMPLETE", generation=generation, completed_by=completion.signal, completed_at=at)
            )
            if taken.rowcount != 1:
                return False
            where = {"study_instance_uid": study_uid, "series_instance_uid": series_uid}
            connection.execute(sa.insert(event).values(**where, at=at, what="complete", detail=completion.signal))
            supersede_jobs(connection, study_uid, series_uid, generation)
            self._decider.record(connection, where, generation, ruling, at)
        del self._waiting[study_uid, series_uid]
        logger.info("series %s complete (%s): %s", series_uid, completion.signal, ruling.decision.reason)
        return True

    def _headers(self, key: tuple[str, str], paths: Sequence[str]) -> list[Dataset]:
        """Headers of the files that can be read, kept while a gap is waited out; one broken file hides no other."""
        count, headers = self._waiting.get(key, (0, []))
        if count != len(paths):
            headers = []
            for path in paths:
                try:
                    headers.append(read_header(self._spool.absolute(path)))
                except InputError as error:
                    logger.warning("router: %s", error)
            self._waiting[key] = (len(paths), headers)
        return headers
