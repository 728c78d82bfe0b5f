"""What a subscriber has to be told of workitems now, for either way of telling it: by DIMSE or over a WebSocket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from node.config import Config
from node.ledger.engine import begin_immediate
from node.ledger.workitem_subscriptions import Subscriber
from node.ledger.workitem_watches import Watch, changed_watches, record_reported
from node.workitems.event_reports import EventReport, Known, event_reports, known_after
from node.workitems.job_uid import JobUids
from node.workitems.known_workitem import known_workitem


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Reports on one workitem that a subscriber does not have."""

    watch: Watch
    reports: Sequence[EventReport]
    """In order."""
    known: Known
    """What the subscriber knows when it has them."""


class PendingReports:
    """Finds what subscribers do not know, and records what they have been told."""

    def __init__(self, config: Config, engine: Engine, uids: JobUids) -> None:
        self._config = config
        self._engine = engine
        self._uids = uids

    def of(self, subscriber: Subscriber, at: float, limit: int) -> list[Pending]:
        """Return the reports on at most ``limit`` workitems; what has changed without one is recorded."""
        with self._engine.connect() as connection:
            changed = changed_watches(connection, subscriber.title, at, limit)
        pending_reports = []
        for watch in changed:
            pending = self._pending(watch)
            if pending.reports:
                pending_reports.append(pending)
            else:
                self.record(subscriber, pending)
        return pending_reports

    def record(self, subscriber: Subscriber, of: Pending) -> None:
        """Keep that a subscriber has the reports on a workitem."""
        with begin_immediate(self._engine) as connection:
            record_reported(connection, subscriber.title, of.watch, of.known.state, of.known.progress)

    def _pending(self, watch: Watch) -> Pending:
        known = Known(state=watch.reported_state, progress=watch.reported_progress)
        of = known_workitem(self._engine, self._uids, watch.uid)
        if of is None:  # its study is being purged
            return Pending(watch=watch, reports=(), known=known)
        reports = event_reports(of, known, self._config, watch.uid, watch.cancel)
        return Pending(watch=watch, reports=reports, known=known_after(of))
