"""The router: looks for series that are complete, decides what happens to them, enqueues their jobs.

It meets the receiver and the workers only in the ledger. Completing a series, its decision and its jobs are one
transaction, guarded by what the decision was based on: an image that slips in between undoes nothing and loses nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace

import sqlalchemy as sa
from pydicom import Dataset

from node.config import Config
from node.errors import InputError
from node.jobs.engine import Jobs
from node.ledger.engine import begin_immediate, now
from node.ledger.jobs import NewJob
from node.ledger.tables import association, decision, event, instance, result, series
from node.spool import Spool
from node.studies.completeness import Arrival, judge
from node.studies.grid import describe
from node.studies.rules import Decision, decide
from node.studies.source import read_header

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class Router:
    """One per node; a second one does no harm, because the guard lets one of them win."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool, jobs: Jobs) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._jobs = jobs
        self._waiting: dict[tuple[str, str], tuple[int, list[Dataset]]] = {}

    def run(self, stop: threading.Event) -> None:
        """Look every second until ``stop`` is set."""
        while not stop.wait(POLL_SECONDS):
            try:
                self.step(now())
            except Exception:  # the actor's own loop: the next look may succeed, nothing is half done
                logger.exception("router: this look failed; trying again")

    def step(self, at: float) -> int:
        """Complete and route every series that is due at ``at``; return how many."""
        with self._engine.connect() as connection:
            due = connection.execute(
                sa.select(series).where(
                    series.c.state == "RECEIVING", series.c.last_at <= at - self._config.series.quiet_seconds
                )
            ).all()
        return sum(self._complete(row, at) for row in due)

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
            ours = connection.scalar(sa.select(sa.func.count()).where(result.c.series_instance_uid == series_uid))
        arrival = Arrival(instances=len(paths), last_at=row.last_at, open_associations=senders or 0)
        headers: list[Dataset] = []
        if not senders:
            headers = self._headers((study_uid, series_uid), paths)
            grid = describe(headers) if headers else None
            arrival = replace(arrival, missing=grid.fault if grid is not None and grid.gap else "")
        completion = judge(arrival, self._config.series, at)
        if not completion.complete:
            return False
        verdict = self._decide(headers, ours=bool(ours))
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
            told = [("complete", completion.signal), (verdict.outcome, verdict.reason)]
            connection.execute(sa.insert(event), [{**where, "at": at, "what": w, "detail": d} for w, d in told])
            self._record(connection, where, generation, verdict, at)
        del self._waiting[study_uid, series_uid]
        logger.info("series %s complete (%s): %s", series_uid, completion.signal, verdict.reason)
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

    def _decide(self, headers: list[Dataset], *, ours: bool) -> Decision:
        if ours:
            return Decision(outcome="ignored", reason="it is a result of this node", routes=(), trace=())
        if not headers:
            return Decision(outcome="ignored", reason="none of its files can be read", routes=(), trace=())
        return decide(headers[0], self._config.rules)

    def _record(
        self, connection: sa.Connection, where: dict[str, str], generation: int, verdict: Decision, at: float
    ) -> None:
        connection.execute(
            sa.insert(decision).values(
                **where,
                generation=generation,
                outcome=verdict.outcome,
                reason=verdict.reason,
                trace=list(verdict.trace),
                decided_at=at,
            )
        )
        for route in verdict.routes:
            new = NewJob(
                study_instance_uid=where["study_instance_uid"],
                series_instance_uid=where["series_instance_uid"],
                generation=generation,
                **asdict(route),
            )
            self._jobs.enqueue(connection, new)
