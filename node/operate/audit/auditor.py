"""The auditor: writes audit messages from the ledger to the local file, then to the syslog server.

It can be killed at any instruction: a message that was written but not yet marked is written again, and none is left
out. The syslog server gets the lines of the file in order; a file next to it holds the position that was reached.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.config import Config
from node.confined import Bounds, shared_process
from node.errors import NodeError, PlatformError
from node.ledger import NoticeKind
from node.ledger.audit_events import Question
from node.ledger.audit_queue import (
    AuditRecord,
    StoredDelivery,
    Transfer,
    mark_associations_audited,
    mark_deliveries_audited,
    pending_notices,
    remove_notices,
    transfers_of_association,
    transfers_of_delivery,
    unaudited_associations,
    unaudited_deliveries,
)
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate, now
from node.ledger.leadership import Leadership
from node.operate.audit import message as m
from node.operate.audit.message import AuditEvent, Participant, Study, message
from node.operate.audit.syslog import Syslog
from node.operate.audit.trail import Trail
from node.spool import Spool
from node.spool.machine import machine_id
from node.studies.attributes import attributes

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
_AT_ONCE = 200
_BOUNDS = Bounds(cpu_seconds=10, wall_seconds=60.0)


def trail_path(config: Config) -> Path:
    """Return the path of the audit file."""
    return Path(config.audit.file) if config.audit.file else config.storage.folder / "audit.log"


class Auditor:
    """Of several machines one writes, to its own file; a message that a crash interrupts may be written twice."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._title = config.ae.title.strip()
        self._destinations = config.destinations
        self._engine = engine
        self._writing = Leadership(engine, "audit")
        self._sending = Leadership(engine, f"audit {machine_id(spool.folder)}")
        self._spool = spool
        self._reader = shared_process("audit reader", spool.data_folders, _BOUNDS, decodes=False)
        self._path = trail_path(config)
        self._trail = Trail(self._path)
        self._sent = self._path.with_name(self._path.name + ".sent")
        self._syslog = Syslog(config.audit.syslog, config.audit.ca, self._title) if config.audit.syslog else None

    def run(self, stop: threading.Event) -> None:
        """Look every two seconds until ``stop`` is set, and once more then."""
        look_every(POLL_SECONDS, stop, "audit", lambda: self.step(clock_of(self._engine)))
        with surviving("audit"):
            self.step(clock_of(self._engine))
        self.close()

    def close(self) -> None:
        """Leave the work to others, and end the connection to the syslog server."""
        self._writing.release()
        self._sending.release()
        if self._syslog is not None:
            self._syslog.close()

    def step(self, at: float) -> int:
        """Write new messages; return how many. A machine also sends what it has written before."""
        written = 0
        if self._writing.is_ours():
            written = self._notices() + self._received(at) + self._delivered(at)
        if self._syslog is not None and self._sending.is_ours():
            self._forward(self._syslog)
        return written

    def _write(self, events: Iterable[AuditEvent]) -> int:
        lines = [message(event, self._title) for event in events]
        self._trail.append(lines)
        return len(lines)

    def _notices(self) -> int:
        with self._engine.connect() as connection:
            notices = pending_notices(connection, _AT_ONCE)
        if not notices:
            return 0
        written = self._write(_of_notice(notice, self._title) for notice in notices)
        with begin_immediate(self._engine) as connection:
            remove_notices(connection, [notice.id for notice in notices])
        return written

    def _received(self, at: float) -> int:
        """Write messages on associations that ended and transferred instances."""
        with self._engine.connect() as connection:
            ended = unaudited_associations(connection, _AT_ONCE)
            transfers = [(association, transfers_of_association(connection, association.id)) for association in ended]
        us = Participant(user=self._title, roles=(m.DESTINATION,))
        events = [
            AuditEvent(
                event=m.INSTANCES_TRANSFERRED,
                action="C",
                at=association.closed_at,
                participants=(
                    Participant(
                        user=association.calling_ae, roles=(m.SOURCE,), address=association.peer_address, requestor=True
                    ),
                    us,
                ),
                studies=self._studies(studies),
            )
            for association, studies in transfers
            if studies
        ]
        written = self._write(events) if events else 0
        if ended:
            with begin_immediate(self._engine) as connection:
                mark_associations_audited(connection, [association.id for association in ended], at)
        return written

    def _delivered(self, at: float) -> int:
        """Write messages on deliveries that a destination has stored."""
        with self._engine.connect() as connection:
            deliveries = unaudited_deliveries(connection, _AT_ONCE)
            transfers = [(delivery, transfers_of_delivery(connection, delivery)) for delivery in deliveries]
        events = [happening for delivery, sent in transfers if sent for happening in self._of_delivery(delivery, sent)]
        written = self._write(events) if events else 0
        if deliveries:
            with begin_immediate(self._engine) as connection:
                mark_deliveries_audited(connection, deliveries, at)
        return written

    def _of_delivery(self, of: StoredDelivery, sent: Sequence[Transfer]) -> Iterator[AuditEvent]:
        to = self._destinations.get(of.destination)
        who = Participant(user=to.title or of.destination if to else of.destination, roles=(m.DESTINATION,))
        us = Participant(user=self._title, roles=(m.SOURCE,), requestor=True)
        begun = AuditEvent(
            event=m.BEGIN_TRANSFERRING, at=of.first_sent_at, participants=(us, who), studies=self._studies(sent)
        )
        yield begun
        yield replace(begun, event=m.INSTANCES_TRANSFERRED, action="R", at=of.last_sent_at)

    def _studies(self, transfers: Sequence[Transfer]) -> list[Study]:
        studies = []
        for uid, group in groupby(transfers, attrgetter("study_instance_uid")):
            own = list(group)
            classes = {transfer.sop_class_uid: transfer.instances for transfer in own}
            studies.append(Study(study_instance_uid=uid, patient_id=self._patient_id(own[0].path), classes=classes))
        return studies

    def _patient_id(self, path: str) -> str:
        try:
            values = self._reader.call(path, attributes, self._spool.readable(path), ("PatientID",))
        except NodeError as error:
            logger.warning("audit: no Patient ID: %s", error)
            return ""
        return values["PatientID"]

    def _forward(self, syslog: Syslog) -> None:
        """Send the lines that the server has not got, one by one; stop at the first that cannot be sent."""
        done = int(self._sent.read_text()) if self._sent.exists() else 0
        if not self._path.exists() or self._path.stat().st_size <= done:
            return
        with self._path.open("rb") as file:
            file.seek(done)
            for line in file:
                try:
                    syslog.send(line[65:].decode().rstrip("\n"), now())
                except PlatformError as error:
                    logger.warning("audit: %s", error)
                    break
                done += len(line)
        part = self._sent.with_suffix(".part")
        part.write_text(str(done))
        part.replace(self._sent)


def _of_notice(row: AuditRecord, title: str) -> AuditEvent:
    """Return the audit message of a notice, in the standard's terms."""
    if row.what == NoticeKind.QUERY:
        return _of_query(row, title)
    who = Participant(user=row.who, address=row.address, requestor=True)
    if row.what in (NoticeKind.START, NoticeKind.STOP):
        type_ = m.APPLICATION_START if row.what == NoticeKind.START else m.APPLICATION_STOP
        us = Participant(user=row.who, roles=(m.APPLICATION,))
        return AuditEvent(event=m.APPLICATION_ACTIVITY, type=type_, at=row.at, detail=row.detail, participants=(us,))
    if row.what in (NoticeKind.LOGIN, NoticeKind.FAILED_LOGIN, NoticeKind.LOGOUT):
        return AuditEvent(
            event=m.USER_AUTHENTICATION,
            type=m.LOGOUT if row.what == NoticeKind.LOGOUT else m.LOGIN,
            at=row.at,
            outcome=m.MINOR_FAILURE if row.what == NoticeKind.FAILED_LOGIN else m.SUCCESS,
            participants=(who,),
        )
    if row.what == NoticeKind.REFUSED:
        return AuditEvent(
            event=m.SECURITY_ALERT,
            type=m.NODE_AUTHENTICATION,
            at=row.at,
            outcome=m.MINOR_FAILURE,
            detail=row.detail,
            participants=(who,),
        )
    return AuditEvent(event=m.APPLICATION_ACTIVITY, at=row.at, detail=row.detail, participants=(who,))


def _of_query(row: AuditRecord, title: str) -> AuditEvent:
    question = Question.from_json(str(row.detail))
    us = Participant(user=title, roles=(m.SOURCE,), requestor=True)
    archive = Participant(user=str(row.who), roles=(m.DESTINATION,), address=str(row.address))
    type_ = m.SOP_CLASS if question.transfer_syntax_uid else m.URI
    query = m.Query(
        about=question.about,
        type=type_,
        identifier=question.identifier,
        transfer_syntax_uid=question.transfer_syntax_uid,
    )
    return AuditEvent(event=m.QUERY, at=row.at, participants=(us, archive), query=query)
