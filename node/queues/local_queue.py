"""Queues from which this process takes attempts, at the clock of the ledger.

The rows of DBOS's own queues hold for every process that shares the database, so the last one to start would decide how
much all others do at once. These queues are objects of this process, with limits of its own; the database holds only
the attempts that are enqueued under their names.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from dbos._dbos import _get_or_create_dbos_registry
from dbos._sys_db import SystemDatabase

from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.queues.attempt_queues import workflows


class LocalQueue:
    """A queue from which this process takes attempts, by priority, then in the order in which they were enqueued."""

    def __init__(self, name: str, poll_seconds: float, limit: int) -> None:
        """``limit``: attempts of this queue that this process executes at the same time."""
        self._limit = limit
        registry = _get_or_create_dbos_registry()
        self._queue = registry._register_internal_queue(  # noqa: SLF001 - contract-tested, version pinned
            name, worker_concurrency=limit, polling_interval_sec=poll_seconds
        )

    def allow(self, limit: int) -> None:
        """Change the limit; attempts that are being executed count, and continue."""
        self._limit = limit
        self.pause(paused=False)

    def pause(self, *, paused: bool) -> None:
        """Take no attempt, or again as many as the limit allows."""
        # Read at each poll; contract-tested, version pinned.
        self._queue._worker_concurrency = 0 if paused else self._limit  # noqa: SLF001


def pause_all(queues: Sequence[LocalQueue], *, paused: bool) -> None:
    """Take no attempt from any of the queues, or again as many as their limits allow."""
    for queue in queues:
        queue.pause(paused=paused)


def end_delays_by_ledger() -> None:
    """Have DBOS, which compares with the clock of this machine, end the delays of attempts by that of the ledger.

    Raises ``AttributeError`` when DBOS has no such method any more: it would use its own clock in silence.
    """
    _ = SystemDatabase.transition_delayed_workflows
    SystemDatabase.transition_delayed_workflows = _end_delays


def _end_delays(database: SystemDatabase) -> None:
    with begin_immediate(database.engine) as connection:
        workflow, at = workflows(connection), int(ledger_clock(connection) * 1000)
        # The state as a constant: DBOS has a partial index of it.
        ended = workflow.c.status == sa.literal_column("'DELAYED'"), workflow.c.delay_until_epoch_ms <= at
        connection.execute(sa.update(workflow).where(*ended).values(status="ENQUEUED"))
