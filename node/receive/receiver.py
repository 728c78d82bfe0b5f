"""The receiver: Storage, Verification, Storage Commitment and MPPS on one port, from recovery to graceful shutdown."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)
from sqlalchemy import Engine

from node.actor import look_every, surviving
from node.config import Config
from node.ledger import AssociationEnding, NoticeKind
from node.ledger.association_endings import Ending
from node.ledger.associations import occupied_bytes
from node.ledger.audit_events import give_notice
from node.listening import Listening
from node.membership import Membership
from node.receive.association import Association, Handlers
from node.receive.availability import notify_availability
from node.receive.command import C_FIND_RQ, N_ACTION_RQ, N_CREATE_RQ, N_EVENT_REPORT_RQ, N_GET_RQ, N_SET_RQ
from node.receive.commitment import CommitmentScp
from node.receive.commitment_report import CommitmentReportScu
from node.receive.content_notification import ContentNotification
from node.receive.copies import Copies
from node.receive.messages import Services, Sink, StoreRequest
from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.policy import STUDY_CONTENT_NOTIFICATION, Policy
from node.receive.procedure_step import ProcedureStepScp
from node.receive.recovery import Recovery, recover
from node.receive.refusals import Refusals
from node.receive.row_writer import RowWriter
from node.receive.sender_quota import Quota
from node.receive.server import Server
from node.receive.status_codes import UNRECOGNISED_OPERATION, Refusal
from node.receive.storage import Storage
from node.receive.workitem_query import find_workitems
from node.receive.workitem_scp import WorkitemScp
from node.spool import Spool
from node.tls import ServerTls
from node.workitems.job_uid import JobUids

LOGGER = logging.getLogger(__name__)

_ONE_NOTICE_SECONDS = 60.0
_NOTICES = 100
"""Addresses in that time."""
_LOOK_SECONDS = 5.0
"""Interval of the search for what dead receivers and a failover of the ledger left."""


class Receiver:
    """Receives in threads of the calling process. Call ``start`` once, then ``stop`` or ``finish`` once."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        spool: Spool,
        membership: Membership,
        listening: Listening | None = None,
        *,
        copies: Copies | None = None,
    ) -> None:
        """``listening``: shared with other receivers; ``None``: this one listens alone. ``copies``: if there are any.

        Raises ``ConfigError`` when a file of ``[ae.tls]`` cannot be used.
        """
        self._tls = ServerTls(config.ae.tls) if config.ae.tls.enabled else None
        self._ae = config.ae
        self._engine = engine
        self._spool = spool
        self._membership = membership
        self._listening = listening
        self._row_writer = RowWriter(engine, spool)
        self._refusals = Refusals(engine)
        self._policy = Policy.of(config.ae, frozenset() if config.procedures else frozenset({"workitems"}))
        self._storage = Storage(
            spool=spool,
            row_writer=self._row_writer,
            quota=Quota(self._occupied_bytes),
            policy=self._policy,
            title=config.ae.title.strip(),
            settings=config.storage,
            copies=copies,
        )
        commitment, procedure_step = CommitmentScp(engine, spool), ProcedureStepScp(engine)
        uids = JobUids(engine)
        workitems = WorkitemScp(config, engine, spool, uids)
        reports = CommitmentReportScu(engine, config.destinations, self._policy)
        self._services: dict[tuple[int, str], Callable[[NormalizedRequest], NormalizedAnswer]] = {
            (N_EVENT_REPORT_RQ, StorageCommitmentPushModel): reports.report,
            (N_ACTION_RQ, StorageCommitmentPushModel): commitment.action,
            (N_CREATE_RQ, ModalityPerformedProcedureStep): procedure_step.create,
            (N_SET_RQ, ModalityPerformedProcedureStep): procedure_step.set,
            (N_CREATE_RQ, InstanceAvailabilityNotification): partial(notify_availability, engine),
            (N_CREATE_RQ, UnifiedProcedureStepPush): workitems.create,
            (N_SET_RQ, UnifiedProcedureStepPull): workitems.set,
        }
        for uid in (UnifiedProcedureStepPush, UnifiedProcedureStepWatch, UnifiedProcedureStepPull):
            self._services |= {(N_GET_RQ, uid): workitems.get, (N_ACTION_RQ, uid): workitems.action}
        for uid in (UnifiedProcedureStepQuery, UnifiedProcedureStepWatch, UnifiedProcedureStepPull):
            self._services[(C_FIND_RQ, uid)] = partial(find_workitems, config, engine, uids)
        self._server: Server | None = None
        self._notified: dict[str, float] = {}
        self._search: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Recover, then accept. Raises ``PlatformError`` when the address is not available."""
        recover(self._engine, self._spool, self._membership.alive)
        listening = self._listening or Listening.open(self._ae.address, self._ae.port)
        self._server = Server(
            listening,
            policy=self._policy,
            acse_timeout=self._ae.association_timeout_seconds,
            network_timeout=self._ae.network_timeout_seconds,
            transfer_timeout=self._ae.transfer_timeout_seconds,
            handlers=Handlers(
                services=Services(store=self._store, not_stored=self._not_stored, normalized=self._normalized),
                closed=self._closed,
                refused=self._refused,
            ),
            tls=self._tls,
            is_drained=lambda: self._membership.is_drained,
            elsewhere=lambda: self._membership.held_elsewhere,
        )
        self._membership.show_held(self._server.held_in_fleet)
        if self._storage.copies is not None:
            self._storage.copies.start()
        self._row_writer.start()
        self._refusals.start()
        self._server.start()
        self._search = threading.Thread(target=self._recover, args=(listening,), name="receive-search", daemon=True)
        self._search.start()
        LOGGER.info("receiving as %s on %s port %d", self._ae.title.strip(), *listening.socket.getsockname()[:2])

    def stop(self, grace_seconds: float = 30.0) -> None:
        """Accept nothing more, let active transfers finish within the grace period, and write all rows."""
        forced = threading.Event()
        forced.set()
        self.finish(forced, grace_seconds)

    def finish(self, forced: threading.Event, grace_seconds: float = 30.0) -> None:
        """Accept nothing more and return when the last association has ended; like ``stop`` once ``forced`` is set."""
        if self._server is None:
            return
        self._server.drain(forced, grace_seconds)
        if self._storage.copies is not None:
            self._storage.copies.stop()
        self._stopping.set()
        if self._search is not None:
            self._search.join()
        self._refusals.stop()
        self._row_writer.stop()

    def _closed(self, association: Association, ending: Ending) -> None:
        """Record the end of an association; an abort is normal for callers with ``aborts_after_transfer``."""
        if ending.how in (AssociationEnding.ABORTED, AssociationEnding.LOST) and not ending.amid:
            caller = self._policy.caller(association.calling_ae, association.peer_address, association.certificate)
            if caller is not None and caller.aborts_after_transfer:
                ending = Ending(AssociationEnding.AS_USUAL)
        self._refusals.ended(association.id)
        self._row_writer.close(association.id, ending)

    def _refused(self, calling_ae: str, address: str, words: str) -> None:
        """Record a refusal for the series, and at most once per minute and address in the audit trail.

        The limit keeps a hostile peer from filling the ledger.
        """
        self._refusals.rejected(calling_ae, address, words)
        at = time.monotonic()
        self._notified = {known: when for known, when in self._notified.items() if at - when < _ONE_NOTICE_SECONDS}
        if address not in self._notified and len(self._notified) < _NOTICES:
            self._notified[address] = at
            give_notice(self._engine, NoticeKind.REFUSED, who=calling_ae, address=address, detail=words)

    def _recover(self, listening: Listening) -> None:
        """Record what has no row, as soon as it can be recorded; the node receives meanwhile."""
        recovery = Recovery(self._engine, self._spool, self._membership, listening, self._stopping)
        with surviving("recovery"):
            recovery.look()
        look_every(_LOOK_SECONDS, self._stopping, "recovery", recovery.look)

    def _occupied_bytes(self, calling_ae: str) -> int:
        with self._engine.connect() as connection:
            return occupied_bytes(connection, calling_ae)

    def _store(self, request: StoreRequest) -> Sink:
        if request.context_class_uid == STUDY_CONTENT_NOTIFICATION:
            return ContentNotification(self._engine, request)
        return self._storage.store(request)

    def _not_stored(self, request: StoreRequest, beginning: bytes, why: Refusal | str) -> None:
        """Record an image that was not stored; a notification that was not taken is only logged."""
        if request.context_class_uid != STUDY_CONTENT_NOTIFICATION:
            self._refusals.not_stored(request, beginning, why)
            return
        comment = why if isinstance(why, str) else why.comment
        LOGGER.warning("Study Content Notification of %s not taken: %s", request.association.calling_ae, comment)

    def _normalized(self, request: NormalizedRequest) -> NormalizedAnswer:
        service = self._services.get((request.operation, request.context_class_uid))
        answer = service(request) if service else NormalizedAnswer(status=UNRECOGNISED_OPERATION)
        if answer.refused:
            self._refused(request.calling_ae, request.address, answer.refused)
        return answer
