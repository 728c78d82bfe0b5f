"""How far analyses are, for those who watch them as workitems: the jobs of the rules and the requests of others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from node.config import FORWARD
from node.errors import NotFoundError
from node.ledger.engine import among
from node.ledger.events import EventKind
from node.ledger.held_objects import HeldObject
from node.ledger.jobs import REJECTION, Job, get_job, jobs_of
from node.ledger.pending_deliveries import HELD
from node.ledger.states import ACTIVE, DeliveryState, ShadowCause
from node.ledger.tables import delivery, delivery_instance, event, instance, job, result
from node.ledger.workitems import BY_REQUEST, Workitem, get_workitem, workitems_of

_OF_OUTPUT = ("sop_class_uid", "sop_instance_uid", "series_instance_uid")


@dataclass(frozen=True, kw_only=True)
class WorkitemProgress:
    """A workitem: an analysis that the rules have decided on, one that was requested, or both."""

    requested: Workitem | None
    """``None``: the rules have decided on it."""
    job: Job | None
    """``None``: it has none yet, or was canceled before."""
    deliveries: int = 0
    """To how many destinations its results go."""
    pending: int = 0
    """How many of them have not stored everything."""

    @property
    def study_instance_uid(self) -> str:
        """Of its images."""
        of = self.requested or self.job
        return "" if of is None else of.study_instance_uid

    @property
    def series_instance_uid(self) -> str:
        """Of its images; empty: not chosen yet."""
        of = self.job or self.requested
        return "" if of is None else of.series_instance_uid


@dataclass(frozen=True, kw_only=True)
class OutputObject:
    """An object that a job has made, and who keeps it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    destinations: tuple[str, ...]
    """That have stored it."""


def progress_of_studies(connection: sa.Connection, studies: Collection[str]) -> list[WorkitemProgress]:
    """Return the workitems of some studies, the latest first. What is only tried in shadow is none."""
    requests = workitems_of(connection, studies)
    jobs = {job.id: job for job in jobs_of(connection, studies)}
    counts = _deliveries(connection, studies)
    workitems = [
        (request.requested_at, _progress(request, jobs.get(request.job_id or ""), counts)) for request in requests
    ]
    workitems += [(job.created_at, _progress(None, job, counts)) for job in jobs.values() if _is_shown(job)]
    return [progress for _, progress in sorted(workitems, key=lambda pair: pair[0], reverse=True)]


def progress_of_request(connection: sa.Connection, uid: str) -> WorkitemProgress | None:
    """Return the workitem that was requested with this UID; ``None``: none was."""
    requested = get_workitem(connection, uid)
    if requested is None:
        return None
    of = None if requested.job_id is None else get_job(connection, requested.job_id)
    return _progress(requested, of, _deliveries(connection, [requested.study_instance_uid]))


def progress_of_job(connection: sa.Connection, job_id: str) -> WorkitemProgress | None:
    """Return the workitem of a job that the rules have decided on; ``None``: there is none."""
    try:
        of = get_job(connection, job_id)
    except NotFoundError:
        return None
    if not _is_shown(of):
        return None
    return _progress(None, of, _deliveries(connection, [of.study_instance_uid]))


def started_at(connection: sa.Connection, of: Job) -> float | None:
    """Return when its first attempt began; ``None``: none has."""
    query = sa.select(sa.func.min(event.c.at)).where(
        event.c.study_instance_uid == of.study_instance_uid,
        event.c.job_id == of.id,
        event.c.kind == EventKind.ATTEMPT_STARTED,
    )
    return connection.scalar(query)


def outputs_of(connection: sa.Connection, of: Job) -> list[OutputObject]:
    """Return what destinations have stored of the results of a job, or what is kept here when none gets anything."""
    if of.shadow is not None:
        return []
    query = (
        sa.select(
            *result.c["sop_class_uid", "sop_instance_uid", "series_instance_uid"], delivery_instance.c.destination
        )
        .outerjoin(
            delivery_instance,
            sa.and_(
                delivery_instance.c.job_id == result.c.job_id,
                delivery_instance.c.sop_instance_uid == result.c.sop_instance_uid,
                HELD,
            ),
        )
        .where(result.c.job_id == of.id, result.c.quarantine.is_(None))
        .where(~sa.func.coalesce(result.c.kind, "").startswith(REJECTION))
        .order_by(result.c.series_instance_uid, result.c.sop_instance_uid, delivery_instance.c.destination)
    )
    holders: dict[tuple[str, str, str], list[str]] = {}
    for *uids, destination in connection.execute(query):
        holders.setdefault((uids[0], uids[1], uids[2]), []).extend([destination] if destination else [])
    has_deliveries = connection.scalar(sa.select(delivery.c.job_id).where(delivery.c.job_id == of.id).limit(1))
    return [
        OutputObject(sop_class_uid=kind, sop_instance_uid=uid, series_instance_uid=series, destinations=tuple(names))
        for (kind, uid, series), names in holders.items()
        if names or has_deliveries is None
    ]


def input_images(connection: sa.Connection, study: str, series_uid: str, limit: int | None = None) -> list[HeldObject]:
    """Return the images of a series that are here."""
    columns = instance.c[tuple(HeldObject.__dataclass_fields__)]
    of_series = (instance.c.study_instance_uid == study, instance.c.series_instance_uid == series_uid)
    query = sa.select(*columns).where(*of_series).order_by(instance.c.sop_instance_uid).limit(limit)
    return [HeldObject(**row) for row in connection.execute(query).mappings()]


def image_of_patient(connection: sa.Connection, study: str, series_uid: str) -> HeldObject | None:
    """Return one image of a series, or of the study when ``series_uid`` is empty; ``None``: none is here."""
    of = instance.c.study_instance_uid == study
    if series_uid:
        of = sa.and_(of, instance.c.series_instance_uid == series_uid)
    columns = instance.c[tuple(HeldObject.__dataclass_fields__)]
    row = connection.execute(sa.select(*columns).where(of).order_by(instance.c.sop_instance_uid).limit(1))
    image = row.mappings().first()
    return None if image is None else HeldObject(**image)


def _is_shown(of: Job) -> bool:
    """Whether the rules have decided on a job; one that was made for a request is shown as that."""
    is_analysis = of.pipeline != FORWARD and of.shadow != ShadowCause.TRIAL
    return is_analysis and not of.rule.startswith(BY_REQUEST)


def _progress(requested: Workitem | None, of: Job | None, counts: dict[str, tuple[int, int]]) -> WorkitemProgress:
    deliveries, pending = (0, 0) if of is None else counts.get(of.id, (0, 0))
    return WorkitemProgress(requested=requested, job=of, deliveries=deliveries, pending=pending)


def _deliveries(connection: sa.Connection, studies: Collection[str]) -> dict[str, tuple[int, int]]:
    """How many destinations get something of each job of some studies, and how many have not stored it."""
    is_pending = sa.case((delivery.c.state.in_((DeliveryState.SCHEDULED, DeliveryState.IN_PROGRESS)), 1), else_=0)
    query = (
        sa.select(delivery.c.job_id, sa.func.count(), sa.func.sum(is_pending))
        .join(job, job.c.id == delivery.c.job_id)
        .where(among(connection, job.c.study_instance_uid, studies), job.c.state.in_(ACTIVE))
        .group_by(delivery.c.job_id)
    )
    return {job_id: (int(number), int(pending)) for job_id, number, pending in connection.execute(query)}
