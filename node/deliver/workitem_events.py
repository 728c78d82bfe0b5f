"""UPS Event SOP Class as SCP (PS3.4 CC.2.4): tells subscribers of workitems, on associations that this node opens.

The ledger has what each subscriber knows; what differs from how far the workitems are is sent. The row follows the
answer, so a process that is killed in between sends a report again, and none is left out. Each subscriber is served in
a thread of its own: one that hangs or is slow holds up no other. For subscribers with a WebSocket it finds only which
workitems are new to them; ``node.dicomweb.event_channels`` tells them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from pynetdicom import build_context, build_role
from pynetdicom.association import Association
from pynetdicom.sop_class import UnifiedProcedureStepEvent, UnifiedProcedureStepPush
from sqlalchemy import Engine

from node.actor import look_every, surviving
from node.config import Config, DestinationTls
from node.deliver.association import Peer, Timeouts, associate
from node.errors import DeliveryError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.leadership import Leadership
from node.ledger.workitem_subscriptions import (
    Subscriber,
    WorkitemKey,
    add_watch,
    due_subscribers,
    put_off_subscriber,
    reset_subscriber,
    set_looked_at,
)
from node.ledger.workitem_watches import begun_again, follow_again, new_workitems, put_off_watch
from node.retry_delay import retry_delay
from node.workitems.event_reports import STATE, EventReport
from node.workitems.job_uid import JobUids
from node.workitems.known_workitem import known_workitem
from node.workitems.pending_reports import Pending, PendingReports
from node.workitems.subscribers import subscriber_address, wants

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 3600.0
BUDGET_SECONDS = 10.0
"""How long one look may tell one subscriber of workitems; the next one goes on with what is current then."""
_AT_ONCE = 200
"""Workitems of one subscriber in one look; the others are told of in the next one."""
_LOOKED_AT_SECONDS = 30.0
"""How old the time of the last look may be in the ledger when nothing was found; each look goes back as far."""
_THREADS = 16
"""Subscribers at once; those that answered the last time are served first."""
_NO_SUCH_EVENT_TYPE = 0x0113
_TIMEOUTS = Timeouts(connect_seconds=5.0, answer_seconds=10.0, stall_seconds=10.0)


class _RefusedError(Exception):
    """A subscriber has refused a report on one workitem; reports on others may be accepted."""


class _Look:
    """One look of a sender at one subscriber, by the clock of the ledger."""

    def __init__(self, at: float) -> None:
        self._at = at
        self._begun = time.monotonic()

    @property
    def now(self) -> float:
        return self._at + self._seconds

    @property
    def is_over(self) -> bool:
        return self._seconds >= BUDGET_SECONDS

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._begun


class WorkitemEvents:
    """Work of the role *sender*; of several processes one does it."""

    def __init__(self, config: Config, engine: Engine, timeouts: Timeouts | None = None) -> None:
        self._config = config
        self._engine = engine
        self._timeouts = timeouts or _TIMEOUTS
        self._uids = JobUids(engine)
        self._pending = PendingReports(config, engine, self._uids)
        self._leadership = Leadership(engine, "UPS events")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="UPS events")
        self._served: dict[str, Future[int]] = {}
        """The last look at each subscriber, by its title."""
        self._ending = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop`` is set."""
        try:
            look_every(LOOK_SECONDS, stop, "UPS events", lambda: self._begin(clock_of(self._engine)))
        finally:
            self.end()

    def end(self) -> None:
        """Leave the work to another process, when the subscribers have answered what they were sent."""
        self._ending.set()
        self._threads.shutdown(cancel_futures=True)
        self._leadership.release()

    def step(self, at: float) -> int:
        """Tell the subscribers that are due at ``at`` of everything that they do not know; return how many reports."""
        return sum(look.result() for look in self._begin(at))

    def _begin(self, at: float) -> list[Future[int]]:
        """Begin a look at each subscriber that is due, but at those that the last one has not ended for."""
        if not self._leadership.is_ours():
            return []
        with self._engine.connect() as connection:
            due = due_subscribers(connection, at)
        self._served = {title: look for title, look in self._served.items() if not look.done()}
        begun = {of.title: self._threads.submit(self._serve, of, at) for of in due if of.title not in self._served}
        self._served |= begun
        return list(begun.values())

    def _serve(self, of: Subscriber, at: float) -> int:
        with surviving(f"UPS events for {of.title}"):
            look = _Look(at)
            self._find(of, look.now)
            return 0 if of.websocket else self._report_to(of, look)
        return 0

    def _report_to(self, of: Subscriber, look: _Look) -> int:
        pending = self._pending.of(of, look.now, _AT_ONCE)
        if not pending:
            return 0
        try:
            sent = self._send(of, pending, look)
        except DeliveryError as error:
            delay = retry_delay(of.failures + 1, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS)
            logger.warning("UPS events: %s; trying again in %g s", error, delay)
            with begin_immediate(self._engine) as connection:
                put_off_subscriber(connection, of, str(error), look.now + delay)
            return 0
        if of.failures:
            with begin_immediate(self._engine) as connection:
                reset_subscriber(connection, of.title)
        return sent

    def _find(self, of: Subscriber, at: float) -> None:
        """Find what is new to a subscriber of all workitems, or of those that match, and what was begun again.

        It is kept before anything is sent, so that the time of this look counts although the subscriber is away.
        """
        with self._engine.connect() as connection:
            unknown = new_workitems(connection, of, _AT_ONCE)
            again = begun_again(connection, of, at, _AT_ONCE)
        keys = [
            (
                WorkitemKey(uid=uid, study_instance_uid=workitem.study_instance_uid, job_id=workitem.job_id),
                self._is_wanted(of, uid),
            )
            for workitem in unknown
            for uid in [workitem.uid or self._uids.uid(workitem.job_id)]
        ]
        is_whole = len(unknown) < _AT_ONCE and len(again) < _AT_ONCE
        is_old = abs(at - of.looked_at) > _LOOKED_AT_SECONDS
        if not (keys or again or (is_whole and is_old)):
            return
        with begin_immediate(self._engine) as connection:
            for key, is_wanted in keys:
                add_watch(connection, of.title, key, is_subscribed=is_wanted, is_locked=is_wanted and of.locks)
            follow_again(connection, of.title, again)
            if is_whole:
                set_looked_at(connection, of.title, at)

    def _is_wanted(self, of: Subscriber, uid: str) -> bool:
        if of.every_since is not None:
            return True
        workitem = known_workitem(self._engine, self._uids, uid)
        return workitem is not None and wants(uid, workitem, self._config)(of)

    def _send(self, of: Subscriber, pending: Sequence[Pending], look: _Look) -> int:
        """Send reports on one association; raises ``DeliveryError`` when the subscriber does not answer.

        When the time is over, the other workitems are left to the next look; the first one has its reports always.
        """
        sent = 0
        with self._association(of.title) as (peer, association):
            for workitem in pending:
                if sent and look.is_over:
                    break
                try:
                    for report in workitem.reports:
                        if self._ending.is_set():
                            return sent
                        self._report(peer, association, workitem.watch.uid, report)
                        sent += 1
                except _RefusedError as error:
                    delay = retry_delay(workitem.watch.failures + 1, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS)
                    logger.warning("UPS events: %s; trying again in %g s", error, delay)
                    with begin_immediate(self._engine) as connection:
                        put_off_watch(connection, of.title, workitem.watch.uid, look.now + delay)
                else:
                    self._pending.record(of, workitem)
        return sent

    @contextmanager
    def _association(self, title: str) -> Iterator[tuple[Peer, Association]]:
        caller = subscriber_address(self._config.ae, title)
        if caller is None:
            raise DeliveryError(
                f"{title} is subscribed, but its address is not known or it may not use workitems any more; add host "
                f'and port to {{ title = "{title}" }} in [ae] callers'
            )
        tls = DestinationTls.towards_callers(self._config.ae.tls)
        peer = Peer(name=title, title=title, host=caller.host, port=caller.port, tls=tls)
        contexts = [build_context(UnifiedProcedureStepEvent)]
        roles = [build_role(UnifiedProcedureStepEvent, scp_role=True)]
        with associate(peer, self._config.ae.title, contexts, self._timeouts, roles=roles) as association:
            yield peer, association

    def _report(self, peer: Peer, association: Association, uid: str, report: EventReport) -> None:
        """Send one report. Its SOP Class is that of every workitem, not that of the context (PS3.4 CC.3.1)."""
        try:
            answer, _ = association.send_n_event_report(
                report.information,
                report.event_type,
                UnifiedProcedureStepPush,
                uid,
                meta_uid=UnifiedProcedureStepEvent,
            )
        except (RuntimeError, ValueError) as error:
            raise DeliveryError(f"{peer}: a report could not be sent ({error})") from error
        status = answer.get("Status")
        if status is None:
            raise DeliveryError(f"{peer}: no response to a report")
        if status == _NO_SUCH_EVENT_TYPE and report.event_type != STATE:
            logger.info("UPS events: %s does not know event type %d", peer, report.event_type)
        elif status != 0x0000:
            raise _RefusedError(f"{peer}: status 0x{status:04X} to a report on workitem {uid}")
