"""Jobs and queries about them. Their transitions are in ``node.ledger.transitions``."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from node.errors import NotFoundError
from node.ledger.clock import ledger_clock
from node.ledger.engine import among
from node.ledger.key_ranges import KeyCondition
from node.ledger.prerequisites import waits
from node.ledger.states import ACTIVE, LEAST_URGENT, DeliveryState, JobStage, JobState, ShadowCause
from node.ledger.tables import delivery, instance, job, result
from node.reasons import Reason
from node.retry_delay import retry_delay

REJECTION = "rejection"
"""Kind of result that withdraws others; a destination's name may follow."""
PROGRESS = sa.case(
    (job.c.stage == JobStage.DELIVER, job.c.updated_at), else_=sa.func.coalesce(job.c.progress_at, job.c.updated_at)
)
"""When a job last moved on. Deliveries have a delay and an alarm of their own; of these every attempt counts."""
IN_TRIAL = sa.func.coalesce(job.c.shadow, "") == ShadowCause.TRIAL
DELIVERY_OPEN = sa.and_(
    delivery.c.ended_at.is_(None), delivery.c.state.not_in((DeliveryState.CONFIRMED, DeliveryState.CANCELED))
)
"""An object is pending for the destination, or its Storage Commitment is awaited."""


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job that the router schedules: one pipeline for one generation of a series."""

    study_instance_uid: str
    series_instance_uid: str
    generation: int
    pipeline: str
    rule: str
    destinations: tuple[str, ...]
    priority: int
    """1 high, 2 medium, 3 low."""
    outcome: str | None = None
    """``"not applicable"`` when that is known before inference; the job then begins with encode."""
    reason: Reason | None = None
    companions: Mapping[str, str] = field(default_factory=dict)
    """Other series of the study that the pipeline may look at: Series Instance UID by name."""
    shadow: ShadowCause | None = None
    """Why no destination gets its results. Its attempts are then the least urgent of all."""
    after: str = ""
    """Pipeline whose result on the same generation it needs; its job is created before this one."""

    @property
    def id(self) -> str:
        """Derived, so that the same decision made twice is one job."""
        parts = (self.study_instance_uid, self.series_instance_uid, str(self.generation), self.pipeline)
        return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt of one stage of a job."""

    job_id: str
    run: int
    stage: JobStage
    subject: str = ""
    """Destination for deliver, ``""`` else."""
    number: int = 0
    pipeline: str = ""
    """Of the job; ``""`` when an older release enqueued it."""
    priority: int = 2
    delay_seconds: float = 0.0

    @property
    def owner(self) -> str:
        """Who takes turns with others for this stage: the destination in deliver, else the pipeline."""
        return self.subject or self.pipeline

    @property
    def in_shadow(self) -> bool:
        """Whether it waits among those that are tried in shadow."""
        return self.priority == LEAST_URGENT and self.stage != JobStage.DELIVER

    @property
    def key(self) -> str:
        """Without the number: what is due, however often it was tried."""
        return "/".join(part for part in (self.job_id, str(self.run), self.stage, self.subject) if part)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of ``job``; see ``node.ledger.tables`` for the columns."""

    id: str
    study_instance_uid: str
    series_instance_uid: str
    generation: int
    pipeline: str
    rule: str
    companions: Mapping[str, str]
    destinations: tuple[str, ...]
    priority: int
    state: JobState
    stage: JobStage
    run: int
    attempt: int
    next_at: float | None
    outcome: str | None
    reason: Reason | str | None
    """Of the outcome or of the cancellation; a sentence where version 1.0.0 wrote it."""
    error: str | None
    created_at: float
    updated_at: float
    incomplete: Reason | str | None
    """What is known to be missing from its series."""
    caveat: Reason | str | None
    """What may be missing."""
    progress_at: float | None
    """When it entered its stage; attempts that fail or are repeated change nothing of it."""
    shadow: ShadowCause | None = None
    """Why its results are sent to no destination."""
    results_purged_at: float | None = None
    """When retention purged its results."""
    after: str = ""
    """Pipeline whose result on the same generation it needs."""
    urgent: Reason | None = None
    """The measurement of its result that is beyond a limit of its rule."""


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often and after which delays a stage is tried."""

    max_attempts: int | None
    """``None``: for ever."""
    first_seconds: float
    max_seconds: float

    def delay(self, failed: int) -> float:
        """Seconds to wait after ``failed`` failed attempts; doubled each time."""
        return retry_delay(failed, self.first_seconds, self.max_seconds)


def get_job(connection: sa.Connection, job_id: str) -> Job:
    """Raises ``NotFoundError``."""
    row = connection.execute(sa.select(job).where(job.c.id == job_id)).first()
    if row is None:
        raise NotFoundError(f"job {job_id!r} is not in the ledger; `ainode status` lists the ids")
    return job_of_row(row)


def urgent_jobs(connection: sa.Connection, since: float) -> list[Job]:
    """Jobs with an urgent result that have changed since then and are not cancelled, the oldest first."""
    is_urgent = (job.c.urgent.is_not(None), job.c.updated_at >= since, job.c.state != JobState.CANCELED)
    rows = connection.execute(sa.select(job).where(*is_urgent).order_by(job.c.updated_at))
    return [job_of_row(row) for row in rows]


def update_job(connection: sa.Connection, job_id: str, **values: object) -> None:
    """Change columns of a job; for the transitions."""
    connection.execute(sa.update(job).where(job.c.id == job_id).values(**values, updated_at=ledger_clock(connection)))


def list_jobs(connection: sa.Connection, *, study: str | None = None, limit: int | None = 100) -> list[Job]:
    """Newest first; ``limit=None``: all."""
    query = sa.select(job).order_by(job.c.created_at.desc(), job.c.id).limit(limit)
    if study is not None:
        query = query.where(job.c.study_instance_uid == study)
    return [job_of_row(row) for row in connection.execute(query)]


def jobs_of(connection: sa.Connection, studies: Collection[str]) -> list[Job]:
    """The jobs of some studies, oldest first."""
    return jobs_of_studies(connection, partial(among, connection, values=studies))


def jobs_of_studies(connection: sa.Connection, of_studies: KeyCondition) -> list[Job]:
    """The jobs of the studies of a condition, oldest first."""
    query = sa.select(job).where(of_studies(job.c.study_instance_uid)).order_by(job.c.created_at, job.c.id)
    return [job_of_row(row) for row in connection.execute(query)]


def job_ids_of(of_studies: KeyCondition) -> KeyCondition:
    """The jobs of the studies of a condition, as a condition on their ids."""
    return lambda column: column.in_(sa.select(job.c.id).where(of_studies(job.c.study_instance_uid)))


def has_jobs(connection: sa.Connection, pipeline: str) -> bool:
    """Whether there is any job of the pipeline."""
    return connection.scalar(sa.select(job.c.id).where(job.c.pipeline == pipeline).limit(1)) is not None


def is_active(connection: sa.Connection, job_id: str) -> bool:
    """Return whether the job is neither finished nor cancelled."""
    return connection.scalar(sa.select(job.c.state).where(job.c.id == job_id)) in ACTIVE


def is_tried(connection: sa.Connection, job_id: str) -> bool:
    """Return whether a job is tried in shadow."""
    return connection.scalar(sa.select(job.c.shadow).where(job.c.id == job_id)) == ShadowCause.TRIAL


def result_path(connection: sa.Connection, sop_instance_uid: str) -> list[str]:
    """Path of a result of this node; empty when it is none, or was purged."""
    return list(connection.scalars(sa.select(result.c.path).where(result.c.sop_instance_uid == sop_instance_uid)))


@dataclass(frozen=True, kw_only=True)
class SourceImage:
    """An image of a job's series as the receiver recorded it."""

    path: str
    sop_class_uid: str
    sop_instance_uid: str
    modality: str


def source_images(connection: sa.Connection, of: Job) -> list[SourceImage]:
    """The images whose files ``source_paths`` names, in its order."""
    paths = source_paths(connection, of)
    known = sa.select(*instance.c[tuple(SourceImage.__dataclass_fields__)]).where(
        instance.c.study_instance_uid == of.study_instance_uid,
        instance.c.series_instance_uid == of.series_instance_uid,
    )
    images = {row["path"]: SourceImage(**row) for row in connection.execute(known).mappings()}
    return [images[path] for path in paths if path in images]


def source_paths(connection: sa.Connection, of: Job, companion: str = "") -> list[str]:
    """Files of the job's series, or of one of its companions, relative to the storage folder.

    Images that arrived after the job was made belong to a later generation: every attempt sees the same input.
    """
    query = (
        sa.select(instance.c.path)
        .where(
            instance.c.study_instance_uid == of.study_instance_uid,
            instance.c.series_instance_uid == (of.companions[companion] if companion else of.series_instance_uid),
            instance.c.received_at <= of.created_at,
        )
        .order_by(instance.c.sop_instance_uid)
    )
    return list(connection.scalars(query))


def retracted_jobs(connection: sa.Connection, job_ids: Collection[str]) -> set[str]:
    """Those of the jobs of which an operator has retracted what their latest run has made."""
    notes = sa.select(result.c.job_id).where(result.c.kind == REJECTION, result.c.job_id.in_(job_ids))
    return set(connection.scalars(notes))


def due_of(connection: sa.Connection, of: Job) -> list[Attempt]:
    """What is due of one job: its stage, or a delivery to each destination with pending objects.

    Nothing while it waits for the result of another job.
    """
    if of.state not in ACTIVE or (of.after and waits(connection, of.id)):
        return []
    first = Attempt(job_id=of.id, run=of.run, stage=of.stage, pipeline=of.pipeline, priority=of.priority)
    if of.stage != JobStage.DELIVER:
        return [replace(first, number=of.attempt)]
    query = sa.select(delivery.c.destination).where(delivery.c.job_id == of.id, DELIVERY_OPEN)
    return [replace(first, subject=name) for name in connection.scalars(query.order_by(delivery.c.destination))]


def job_of_row(row: sa.Row[tuple[Any, ...]]) -> Job:
    """A whole row of ``job`` as a value."""
    fields: dict[str, Any] = dict(zip(row._fields, row, strict=True))
    del fields["traced_at"]  # the tracer's own
    fields["destinations"] = tuple(fields["destinations"])
    fields["companions"], fields["after"] = fields["companions"] or {}, fields["after"] or ""
    fields["state"], fields["stage"] = JobState(row.state), JobStage(row.stage)
    fields["shadow"] = row.shadow and ShadowCause(row.shadow)
    return Job(**fields)
