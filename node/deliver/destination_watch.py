"""Probes destinations that are down and reports overdue deliveries.

``node.ledger.destination_circuits`` decides when a destination is down.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine

from node.actor import surviving
from node.config import Config
from node.deliver.association import Timeouts
from node.deliver.echo import echo
from node.ledger import destination_circuits
from node.ledger.clock import clock_of
from node.ledger.deliveries import mark_overdue, not_done
from node.ledger.engine import begin_immediate
from node.ledger.jobs import get_job
from node.log import about

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
OVERDUE_SECONDS = 60.0
"""Interval of the check for overdue deliveries."""


class Watch:
    """Watches the destinations. With several senders each probe and each alarm still happens once."""

    def __init__(
        self, config: Config, engine: Engine, make_due: Callable[[str], None], timeouts: Timeouts | None = None
    ) -> None:
        """``make_due``: makes the attempts that wait for a destination due now."""
        self._config = config
        self._engine = engine
        self._make_due = make_due
        self._timeouts = timeouts
        self._watched: dict[tuple[str, str], float] = {}

    def run(self, stop: threading.Event) -> None:
        """Check every second until ``stop`` is set."""
        looked_at = 0.0
        while not stop.wait(POLL_SECONDS):
            with surviving("watch of the destinations"):
                self.probe(clock_of(self._engine))
                if time.monotonic() - looked_at > OVERDUE_SECONDS:
                    looked_at = time.monotonic()
                    self.alarm(clock_of(self._engine), looked_at)

    def probe(self, at: float) -> None:
        """Probe every destination that is down and due. ``at``: now, in seconds since 1970 UTC."""
        with self._engine.connect() as connection:
            down = [
                circuit.destination
                for circuit in destination_circuits.circuits(connection)
                if circuit.opened_at is not None
            ]
        for name in down:
            self._probe(name, at)

    def alarm(self, at: float, steady: float) -> None:
        """Report once each delivery that is overdue at ``at``, since its creation or since it is watched.

        ``steady``: monotonic seconds; a system clock that is set back must not delay the alarm.
        """
        waiting: dict[tuple[str, str], float] = {}
        for name, destination in self._config.destinations.items():
            longest = destination.alarm_after_hours * 3600
            with self._engine.connect() as connection:
                created = not_done(connection, name)
            waiting |= {(name, job_id): self._watched.get((name, job_id), steady) for job_id in created}
            late = [
                job_id
                for job_id, created_at in created.items()
                if max(at - created_at, steady - waiting[name, job_id]) > longest
            ]
            if not late:
                continue
            with begin_immediate(self._engine) as connection:
                late = mark_overdue(connection, name, late, at)
            for job_id in late:
                hours = destination.alarm_after_hours
                with self._engine.connect() as connection:
                    study = get_job(connection, job_id).study_instance_uid
                with about(study, job=job_id):
                    logger.error("ALARM: the delivery of job %s to %s is pending after %g hours", job_id, name, hours)
        self._watched = waiting

    def _probe(self, name: str, at: float) -> None:
        destination = self._config.destinations.get(name)
        next_at = at + (destination.first_retry_seconds if destination else 60.0)
        with begin_immediate(self._engine) as connection:
            ours = destination_circuits.take_probe(connection, name, at, next_at)
        if not ours:
            return
        # A destination that is no longer configured counts as up: its deliveries report that.
        answer = echo(name, destination, self._config.ae.title, self._timeouts) if destination else None
        if answer is None or answer.ok:
            with begin_immediate(self._engine) as connection:
                destination_circuits.close(connection, name)
            self._make_due(name)
            logger.info("%s answers again; its deliveries continue", name)
