"""Workitems: analyses that other systems have requested, each of which becomes a job once.

A service adds a row before it acknowledges the request. The router makes the job and takes the workitem in one
transaction, so a process that is killed in between does it again, and no analysis is there twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import among, insert_new
from node.ledger.events import EventKind, record_study_event
from node.ledger.states import JobState, WorkitemState
from node.ledger.tables import job, workitem
from node.reasons import Reason, ReasonCode

_PENDING = workitem.c.state == sa.literal_column(f"'{WorkitemState.PENDING}'")
"""As a literal, for which the index of pending workitems serves."""


BY_REQUEST = "requested, "
"""Begins what a job has in place of the name of a rule when it was made for a request; the procedure follows."""


@dataclass(frozen=True, kw_only=True)
class Requested:
    """What a requester stated besides the study, for others who look at the workitem. Names no patient."""

    code: tuple[str, str, str]
    """Value, scheme and meaning of Scheduled Workitem Code Sequence, or of the procedure."""
    priority: str = "MEDIUM"
    """Scheduled Procedure Step Priority (0074,1200): HIGH, MEDIUM or LOW."""
    label: str = ""
    """Procedure Step Label (0074,1204)."""
    worklist: str = ""
    """Worklist Label (0074,1202)."""


@dataclass(frozen=True, kw_only=True)
class NewWorkitem:
    """A request for an analysis."""

    uid: str
    study_instance_uid: str
    series_instance_uid: str
    """Empty: the one series of the study that suits."""
    procedure: str
    """Name of ``[procedures.NAME]``."""
    requester: str
    requested: Requested


@dataclass(frozen=True, kw_only=True)
class Workitem(NewWorkitem):
    """One row of ``workitem``."""

    state: WorkitemState
    job_id: str | None
    """That performs it."""
    reason: Reason | None
    """Why it ended without a job, or without the end of its job."""
    cancel_by: str | None
    """Who asks the router to cancel it."""
    requested_at: float
    updated_at: float


def add_workitem(connection: sa.Connection, new: NewWorkitem, pipeline: str) -> bool:
    """Keep a request; ``False``: there is a workitem with this UID."""
    at = ledger_clock(connection)
    row = vars(new) | {"request": asdict(new.requested), "state": WorkitemState.PENDING}
    row |= {"requested_at": at, "updated_at": at}
    del row["requested"]
    if not insert_new(connection, workitem, [row]):
        return False
    record_study_event(
        connection,
        EventKind.REQUESTED,
        at=at,
        study_instance_uid=new.study_instance_uid,
        series_instance_uid=new.series_instance_uid or None,
        pipeline=pipeline,
        requester=new.requester,
        uid=new.uid,
    )
    return True


def get_workitem(connection: sa.Connection, uid: str) -> Workitem | None:
    """Return the request with this UID; ``None``: there is none."""
    row = connection.execute(sa.select(workitem).where(workitem.c.uid == uid)).mappings().first()
    return None if row is None else _workitem(row)


def workitems_of(connection: sa.Connection, studies: Collection[str]) -> list[Workitem]:
    """Return the requests about some studies, the oldest first."""
    query = sa.select(workitem).where(among(connection, workitem.c.study_instance_uid, studies))
    rows = connection.execute(query.order_by(workitem.c.requested_at, workitem.c.uid)).mappings()
    return [_workitem(row) for row in rows]


def pending_workitems(connection: sa.Connection) -> list[Workitem]:
    """Return the requests without a job, the oldest first."""
    rows = connection.execute(sa.select(workitem).where(_PENDING).order_by(workitem.c.requested_at)).mappings()
    return [_workitem(row) for row in rows]


def ask_for_cancellation(connection: sa.Connection, uid: str, who: str) -> None:
    """Keep that somebody wants a workitem to be canceled, for the router."""
    connection.execute(sa.update(workitem).where(workitem.c.uid == uid).values(cancel_by=who))


def unwanted_workitems(connection: sa.Connection) -> list[Workitem]:
    """Return the workitems that somebody wants to be canceled."""
    rows = connection.execute(sa.select(workitem).where(workitem.c.cancel_by.is_not(None))).mappings()
    return [_workitem(row) for row in rows]


def answer_cancellation(connection: sa.Connection, uid: str) -> None:
    """Record that the router has seen a request for cancellation."""
    connection.execute(sa.update(workitem).where(workitem.c.uid == uid).values(cancel_by=None))


def take_workitem(connection: sa.Connection, uid: str, series_uid: str, job_id: str) -> bool:
    """Record the job of a pending request; ``False``: another router was faster, or it was canceled."""
    return _change(connection, uid, state=WorkitemState.TAKEN, series_instance_uid=series_uid, job_id=job_id)


def end_workitem(connection: sa.Connection, uid: str, why: Reason) -> bool:
    """End a pending request; ``False``: it has a job or has ended."""
    return _change(connection, uid, state=WorkitemState.CANCELED, reason=why)


def part_from_job(connection: sa.Connection, job_id: str, why: Reason, besides: str) -> None:
    """End the requests of a job that is begun again for one of them, ``besides``: what was canceled stays so."""
    values = {"state": WorkitemState.CANCELED, "job_id": None, "reason": why, "updated_at": ledger_clock(connection)}
    of_job = (workitem.c.job_id == job_id, workitem.c.state == WorkitemState.TAKEN, workitem.c.uid != besides)
    connection.execute(sa.update(workitem).where(*of_job).values(**values))


def renew_superseded(connection: sa.Connection, study: str, series_uid: str) -> None:
    """Make requests pending whose jobs a new generation of their series has superseded: they get one on all images."""
    canceled = sa.select(job.c.id, job.c.reason).where(
        job.c.study_instance_uid == study,
        job.c.series_instance_uid == series_uid,
        job.c.state == JobState.CANCELED,
        sa.exists().where(workitem.c.job_id == job.c.id, workitem.c.state == WorkitemState.TAKEN),
    )
    superseded = [
        job_id
        for job_id, why in connection.execute(canceled)
        if isinstance(why, Mapping) and why.get("code") == ReasonCode.SUPERSEDED
    ]
    values = {"state": WorkitemState.PENDING, "job_id": None, "updated_at": ledger_clock(connection)}
    connection.execute(sa.update(workitem).where(workitem.c.job_id.in_(superseded)).values(**values))


def _change(connection: sa.Connection, uid: str, **values: object) -> bool:
    at = ledger_clock(connection)
    changed = sa.update(workitem).where(_PENDING, workitem.c.uid == uid).values(**values, updated_at=at)
    return bool(connection.execute(changed).rowcount)


def _workitem(row: Any) -> Workitem:
    values = dict(row)
    stated = values.pop("request")
    requested = Requested(**stated | {"code": tuple(stated["code"])})
    return Workitem(requested=requested, **values | {"state": WorkitemState(values["state"])})
