"""Everything that the ledger knows about one study, as values: what `ainode explain` and the evidence bundle show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from node.ledger.conflicts import ConflictRecord, conflicts_of_study
from node.ledger.jobs import Job, jobs_of
from node.ledger.progress import Decision, DeliveryProgress, StudyProgress, project
from node.ledger.results import Result, results_of_study
from node.ledger.series import Series
from node.ledger.tables import decision, delivery, delivery_instance, delivery_kind, event, instance, job, series
from node.reasons import Reason

_Row = TypeVar("_Row")


@dataclass(frozen=True, kw_only=True)
class SeriesRecord(Series):
    """All of a series' row."""

    completed_by: str | None
    """The signal, in words."""
    completed_at: float | None
    doubts: list[dict[str, Any]] | None
    """Why it is not complete yet."""


@dataclass(frozen=True, kw_only=True)
class DecisionRecord(Decision):
    """All of a decision's row."""

    trace: list[dict[str, Any]]
    """As ``node.routing.rules.trace_entry`` makes it."""
    decided_at: float
    incomplete: Reason | str | None
    """What is known to be missing."""
    caveat: Reason | str | None
    """What may be missing."""
    characteristics: dict[str, Any] | None
    """What the headers of the series showed; ``None``: they were not read, or before this was kept."""


@dataclass(frozen=True, kw_only=True)
class DeliveryRecord(DeliveryProgress):
    """All of a delivery's row."""

    attempt: int
    next_at: float | None
    error: str | None
    alarmed_at: float | None
    created_at: float
    updated_at: float
    audited_at: float | None
    every_kind: bool
    """It is about results of every kind; otherwise of ``StudyHistory.kinds``."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a destination answered about one object."""

    job_id: str
    destination: str
    sop_instance_uid: str
    status: int | None
    """Of the last C-STORE response."""
    comment: str | None
    sent_at: float | None
    transaction_uid: str | None
    """Of the last Storage Commitment request."""
    asked_at: float | None
    committed_at: float | None
    sent_syntax_uid: str | None
    sent_digest: str | None


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of the timeline."""

    id: int
    at: float
    study_instance_uid: str
    series_instance_uid: str | None
    job_id: str | None
    kind: str
    """Of ``EventKind``."""
    stage: str | None
    attempt: int | None
    """From 1."""
    seconds: float | None
    """That the attempt took."""
    destination: str | None
    error_code: str | None
    """Of ``node.errors``."""
    parameters: Mapping[str, Any]
    """What else its sentence needs."""


@dataclass(frozen=True, kw_only=True)
class StudyHistory:
    """The rows of one study, each kind in the order in which they came about."""

    series: tuple[SeriesRecord, ...]
    decisions: tuple[DecisionRecord, ...]
    conflicts: tuple[ConflictRecord, ...]
    jobs: tuple[Job, ...]
    results: tuple[Result, ...]
    deliveries: tuple[DeliveryRecord, ...]
    kinds: Mapping[tuple[str, str], list[str]]
    """Job and destination -> kinds of the results of a delivery that is not about every kind."""
    answers: tuple[Answer, ...]
    """By SOP Instance UID."""
    events: tuple[Event, ...]
    sizes: Mapping[str, int]
    """Bytes of the images that are kept, by Series Instance UID."""

    def progress(self) -> StudyProgress:
        """How far the study is; for one that has a series."""
        (study,) = project(self.series, self.decisions, self.jobs, self.deliveries)
        return study


def study_history(connection: sa.Connection, study: str) -> StudyHistory:
    """Empty for a study that the ledger does not know."""
    of_job = sa.select(job.c.id).where(job.c.study_instance_uid == study)
    sizes = sa.select(instance.c.series_instance_uid, sa.func.sum(instance.c.size))
    sizes = sizes.where(instance.c.study_instance_uid == study).group_by(instance.c.series_instance_uid)
    return StudyHistory(
        series=read_records(connection, SeriesRecord, series, series.c.study_instance_uid == study, "first_at"),
        decisions=read_records(
            connection, DecisionRecord, decision, decision.c.study_instance_uid == study, "generation"
        ),
        conflicts=tuple(conflicts_of_study(connection, study)),
        jobs=tuple(jobs_of(connection, [study])),
        results=tuple(results_of_study(connection, study)),
        deliveries=read_records(connection, DeliveryRecord, delivery, delivery.c.job_id.in_(of_job), "created_at"),
        kinds=_kinds(connection, of_job),
        answers=read_records(
            connection, Answer, delivery_instance, delivery_instance.c.job_id.in_(of_job), "sop_instance_uid"
        ),
        events=read_records(connection, Event, event, event.c.study_instance_uid == study, "at"),
        sizes={uid: int(size) for uid, size in connection.execute(sizes)},
    )


def _kinds(connection: sa.Connection, jobs: sa.Select[tuple[str]]) -> dict[tuple[str, str], list[str]]:
    kinds: dict[tuple[str, str], list[str]] = {}
    query = sa.select(delivery_kind).where(delivery_kind.c.job_id.in_(jobs)).order_by(delivery_kind.c.kind)
    for row in connection.execute(query):
        kinds.setdefault((row.job_id, row.destination), []).append(row.kind)
    return kinds


@dataclass(frozen=True, kw_only=True)
class ReceivedImage:
    """A received image and the digest of its file."""

    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    digest: str
    size: int
    received_at: float


def received_images(connection: sa.Connection, study: str) -> list[ReceivedImage]:
    """Every image of a study that counts, in the order of arrival."""
    records = read_records(connection, ReceivedImage, instance, instance.c.study_instance_uid == study, "received_at")
    return list(records)


def image_path_of_series(connection: sa.Connection, studies: Collection[str]) -> dict[tuple[str, str], str]:
    """Study and series -> path of one of its images, the series that was received first at the beginning."""
    own = sa.and_(
        instance.c.study_instance_uid == series.c.study_instance_uid,
        instance.c.series_instance_uid == series.c.series_instance_uid,
    )
    path = sa.select(instance.c.path).where(own).limit(1).scalar_subquery()
    query = sa.select(series.c.study_instance_uid, series.c.series_instance_uid, path)
    query = query.where(series.c.study_instance_uid.in_(studies)).order_by(series.c.first_at)
    return {(study, uid): path for study, uid, path in connection.execute(query) if path}


def read_records(
    connection: sa.Connection, kind: type[_Row], table: sa.Table, where: sa.ColumnElement[bool], order: str
) -> tuple[_Row, ...]:
    """Rows of ``table`` as values of a dataclass whose fields are columns."""
    names = tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    query = sa.select(*table.c[names]).where(where).order_by(table.c[order])
    return tuple(kind(**row) for row in connection.execute(query).mappings())
