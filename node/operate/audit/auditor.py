"""The auditor: writes audit messages from the ledger to the local file, then to the syslog server.

It can be killed at any instruction: what was told but not yet marked is told again, nothing is left out. The syslog
server gets the lines of the file in order; how far it has come stands in a file beside it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.config import Config
from node.errors import InputError, PlatformError
from node.ledger.audit_events import Question
from node.ledger.engine import begin_immediate, now
from node.ledger.tables import association, delivery, delivery_instance, instance, job, notice, result
from node.operate.audit import message as m
from node.operate.audit.message import AuditEvent, Participant, Study, message
from node.operate.audit.syslog import Syslog
from node.operate.audit.trail import Trail
from node.spool import Spool
from node.studies.source import read_header

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
_AT_ONCE = 200


def trail_path(config: Config) -> Path:
    """Return the path of the audit file."""
    return Path(config.audit.file) if config.audit.file else config.storage.folder / "audit.log"


class Auditor:
    """One per node; with several, each message is told by one of them, after a crash perhaps twice."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._title = config.ae.title.strip()
        self._destinations = config.destinations
        self._engine = engine
        self._spool = spool
        self._path = trail_path(config)
        self._trail = Trail(self._path)
        self._sent = self._path.with_name(self._path.name + ".sent")
        self._syslog = Syslog(config.audit.syslog, config.audit.ca, self._title) if config.audit.syslog else None

    def run(self, stop: threading.Event) -> None:
        """Look every two seconds until ``stop`` is set, and once more then."""
        look_every(POLL_SECONDS, stop, "audit", self.step)
        with surviving("audit"):
            self.step(now())
        self.close()

    def close(self) -> None:
        """End the connection to the syslog server."""
        if self._syslog is not None:
            self._syslog.close()

    def step(self, at: float) -> int:
        """Write new messages; return how many."""
        told = self._notices() + self._received(at) + self._delivered(at)
        if self._syslog is not None:
            self._forward(self._syslog)
        return told

    def _tell(self, happenings: Iterable[AuditEvent]) -> int:
        lines = [message(one, self._title) for one in happenings]
        self._trail.append(lines)
        return len(lines)

    def _notices(self) -> int:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(notice).order_by(notice.c.id).limit(_AT_ONCE)).all()
        if not rows:
            return 0
        told = self._tell(_of_notice(row, self._title) for row in rows)
        with begin_immediate(self._engine) as connection:
            connection.execute(sa.delete(notice).where(notice.c.id.in_([row.id for row in rows])))
        return told

    def _received(self, at: float) -> int:
        """Yield messages on associations that ended and transferred instances."""
        ended = sa.and_(association.c.closed_at.is_not(None), association.c.audited_at.is_(None))
        with self._engine.connect() as connection:
            query = sa.select(association).where(ended).order_by(association.c.closed_at).limit(_AT_ONCE)
            rows = connection.execute(query).all()
            happenings = []
            for row in rows:
                where = instance.c.association_id == row.id
                studies = list(self._studies(connection, instance, instance.c.path, where))
                if studies:
                    source = Participant(
                        user=row.calling_ae, roles=(m.SOURCE,), address=row.peer_address, requestor=True
                    )
                    us = Participant(user=self._title, roles=(m.DESTINATION,))
                    happenings.append(
                        AuditEvent(
                            event=m.INSTANCES_TRANSFERRED,
                            action="C",
                            at=row.closed_at,
                            participants=(source, us),
                            studies=studies,
                        )
                    )
        told = self._tell(happenings) if happenings else 0
        if rows:
            with begin_immediate(self._engine) as connection:
                mine = association.c.id.in_([row.id for row in rows])
                connection.execute(sa.update(association).where(mine).values(audited_at=at))
        return told

    def _delivered(self, at: float) -> int:
        """Deliveries that a destination has stored."""
        stored = sa.and_(delivery.c.state.in_(("STORED", "CONFIRMED")), delivery.c.audited_at.is_(None))
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(delivery).where(stored).limit(_AT_ONCE)).all()
            happenings: list[AuditEvent] = []
            for row in rows:
                happenings += self._of_delivery(connection, row)
        told = self._tell(happenings) if happenings else 0
        if rows:
            with begin_immediate(self._engine) as connection:
                for row in rows:
                    mine = sa.and_(delivery.c.job_id == row.job_id, delivery.c.destination == row.destination)
                    connection.execute(sa.update(delivery).where(mine).values(audited_at=at))
        return told

    def _of_delivery(self, connection: sa.Connection, row: sa.Row[tuple[object, ...]]) -> Iterator[AuditEvent]:
        sent = sa.select(delivery_instance.c.sop_instance_uid).where(
            delivery_instance.c.job_id == row.job_id, delivery_instance.c.destination == row.destination
        )
        first, last = connection.execute(
            sa.select(sa.func.min(delivery_instance.c.sent_at), sa.func.max(delivery_instance.c.sent_at)).where(
                delivery_instance.c.job_id == row.job_id, delivery_instance.c.destination == row.destination
            )
        ).one()
        to = self._destinations.get(row.destination)
        who = Participant(user=to.title or row.destination if to else row.destination, roles=(m.DESTINATION,))
        us = Participant(user=self._title, roles=(m.SOURCE,), requestor=True)
        results = sa.and_(result.c.job_id == row.job_id, result.c.sop_instance_uid.in_(sent))
        studies = list(self._studies(connection, result.join(job, job.c.id == result.c.job_id), result.c.path, results))
        studies = studies or list(
            self._studies(connection, instance, instance.c.path, instance.c.sop_instance_uid.in_(sent))
        )
        if studies:
            begun = AuditEvent(event=m.BEGIN_TRANSFERRING, at=first, participants=(us, who), studies=studies)
            yield begun
            yield replace(begun, event=m.INSTANCES_TRANSFERRED, action="R", at=last)

    def _studies(
        self, connection: sa.Connection, table: sa.FromClause, path: sa.Column[str], where: sa.ColumnElement[bool]
    ) -> Iterator[Study]:
        study = job.c.study_instance_uid if table is not instance else instance.c.study_instance_uid
        sop_class = result.c.sop_class_uid if table is not instance else instance.c.sop_class_uid
        rows = connection.execute(
            sa.select(study, sop_class, sa.func.count(), sa.func.min(path))
            .select_from(table)
            .where(where)
            .group_by(study, sop_class)
            .order_by(study)
        ).all()
        for uid in dict.fromkeys(row[0] for row in rows):
            own = [row for row in rows if row[0] == uid]
            patient = self._patient_id(own[0][3])
            yield Study(study_instance_uid=uid, patient_id=patient, classes={row[1]: row[2] for row in own})

    def _patient_id(self, path: str) -> str:
        try:
            return str(read_header(self._spool.absolute(path)).get("PatientID") or "")
        except (InputError, OSError):
            return ""

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


def _of_notice(row: sa.Row[tuple[object, ...]], title: str) -> AuditEvent:
    """Return the audit message of a notice, in the standard's terms."""
    if row.what == "query":
        return _of_query(row, title)
    who = Participant(user=row.who, address=row.address, requestor=True)
    if row.what in ("start", "stop"):
        type_ = m.APPLICATION_START if row.what == "start" else m.APPLICATION_STOP
        us = Participant(user=row.who, roles=(m.APPLICATION,))
        return AuditEvent(event=m.APPLICATION_ACTIVITY, type=type_, at=row.at, detail=row.detail, participants=(us,))
    if row.what in ("login", "failed login", "logout"):
        return AuditEvent(
            event=m.USER_AUTHENTICATION,
            type=m.LOGOUT if row.what == "logout" else m.LOGIN,
            at=row.at,
            outcome=m.MINOR_FAILURE if row.what == "failed login" else m.SUCCESS,
            participants=(who,),
        )
    if row.what == "refused":
        return AuditEvent(
            event=m.SECURITY_ALERT,
            type=m.NODE_AUTHENTICATION,
            at=row.at,
            outcome=m.MINOR_FAILURE,
            detail=row.detail,
            participants=(who,),
        )
    return AuditEvent(event=m.APPLICATION_ACTIVITY, at=row.at, detail=row.detail, participants=(who,))


def _of_query(row: sa.Row[tuple[object, ...]], title: str) -> AuditEvent:
    question = Question.from_json(str(row.detail))
    us = Participant(user=title, roles=(m.SOURCE,), requestor=True)
    asked = Participant(user=str(row.who), roles=(m.DESTINATION,), address=str(row.address))
    type_ = m.SOP_CLASS if question.transfer_syntax_uid else m.URI
    query = m.Query(
        about=question.about,
        type=type_,
        identifier=question.identifier,
        transfer_syntax_uid=question.transfer_syntax_uid,
    )
    return AuditEvent(event=m.QUERY, at=row.at, participants=(us, asked), query=query)
