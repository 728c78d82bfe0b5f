"""Purging a study or a part of it: which studies may be old enough, and the removal of their rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from node.errors import NodeError
from node.ledger.clock import ledger_clock
from node.ledger.embeddings import delete_embeddings
from node.ledger.events import EventKind, record_event, record_study_event
from node.ledger.instances import hold_receipts
from node.ledger.jobs import Job
from node.ledger.missing_copies import end_missing_copies, end_missing_copies_below
from node.ledger.packed_files import delete_packed
from node.ledger.planned_purges import StoredStudy, stored_studies
from node.ledger.states import JobStage
from node.ledger.tables import (
    candidate,
    claimed_workitem,
    conflict,
    decision,
    delivery,
    delivery_instance,
    delivery_kind,
    event,
    excluded,
    fetched_study,
    instance,
    job,
    lesion_embedding,
    original,
    reader_object,
    reader_query,
    refusal,
    replaced,
    result,
    series,
    series_request,
    workitem,
    workitem_watch,
    worklist_query,
)


def studies_without_event_since(connection: sa.Connection, before: float) -> list[str]:
    """Studies of which nothing was received at or after ``before`` (seconds since 1970 UTC)."""
    last = sa.union_all(  # a study may have nothing but images whose SOP Instance UIDs another study used first
        sa.select(series.c.study_instance_uid, series.c.last_at.label("at")),
        sa.select(conflict.c.study_instance_uid, conflict.c.received_at),
    ).subquery()
    query = sa.select(last.c.study_instance_uid).group_by(last.c.study_instance_uid)
    return list(connection.scalars(query.having(sa.func.max(last.c.at) < before).order_by(last.c.study_instance_uid)))


@dataclass(frozen=True, kw_only=True)
class PurgedFiles:
    """What remains to be deleted when rows are removed."""

    jobs: tuple[str, ...] = ()
    """Whose folders go."""
    paths: tuple[str, ...] = ()
    """Of received files, relative to ``[storage] folder``."""


def locked_study(connection: sa.Connection, study: str) -> StoredStudy | None:
    """Return what is stored of a study; ``None``: nothing.

    Until the transaction ends no received file is recorded, and no job of the study is retried.
    """
    hold_receipts(connection)
    connection.execute(sa.select(job.c.id).where(job.c.study_instance_uid == study).with_for_update())
    return next(iter(stored_studies(connection, [study])), None)


def purge_study(connection: sa.Connection, study: str) -> PurgedFiles:
    """Remove every row of a study, which ``locked_study`` holds."""
    jobs = sa.select(job.c.id).where(job.c.study_instance_uid == study)
    files = (
        sa.select(instance.c.path)
        .where(instance.c.study_instance_uid == study)
        .union_all(
            sa.select(conflict.c.path).where(conflict.c.study_instance_uid == study),
            sa.select(excluded.c.path).where(excluded.c.study_instance_uid == study),
        )
    )
    purged = PurgedFiles(jobs=tuple(connection.scalars(jobs)), paths=tuple(connection.scalars(files)))
    for table in (delivery_instance, delivery_kind, delivery, original, replaced, result):
        connection.execute(sa.delete(table).where(table.c.job_id.in_(jobs)))
    for table in (
        lesion_embedding,
        job,
        decision,
        candidate,
        event,
        conflict,
        excluded,
        refusal,
        reader_object,
        reader_query,
        instance,
        series,
        series_request,
        workitem,
        workitem_watch,
        claimed_workitem,
        worklist_query,
        fetched_study,
    ):
        connection.execute(sa.delete(table).where(table.c.study_instance_uid == study))
    _end_copies(connection, purged)
    return purged


def purge_images(connection: sa.Connection, study: str, series_uid: str) -> PurgedFiles:
    """Remove the rows of the images of a series of a study that ``locked_study`` holds; the series itself stays."""
    of_series = (instance.c.study_instance_uid == study, instance.c.series_instance_uid == series_uid)
    purged = PurgedFiles(paths=tuple(connection.scalars(sa.select(instance.c.path).where(*of_series))))
    connection.execute(sa.delete(instance).where(*of_series))
    images = len(purged.paths)
    connection.execute(
        sa.update(series)
        .where(series.c.study_instance_uid == study, series.c.series_instance_uid == series_uid)
        .values(
            instances=0,
            size=0,
            purged_images=sa.case((series.c.purged_images > images, series.c.purged_images), else_=images),
        )
    )
    _end_copies(connection, purged)
    record_study_event(
        connection,
        EventKind.IMAGES_PURGED,
        at=ledger_clock(connection),
        study_instance_uid=study,
        series_instance_uid=series_uid,
        images=images,
    )
    return purged


def purge_results(connection: sa.Connection, job_id: str, lost_with: str = "") -> PurgedFiles:
    """Remove the results of a job of a study that ``locked_study`` holds; the job and its deliveries stay.

    ``lost_with``: the machine whose disk had the only copies; "": retention purges them.
    """
    objects = connection.execute(sa.delete(result).where(result.c.job_id == job_id)).rowcount
    delete_embeddings(connection, job_id)
    at = ledger_clock(connection)
    # Its own column alone: the study is as old as it was before.
    connection.execute(sa.update(job).where(job.c.id == job_id).values(results_purged_at=at))
    purged = PurgedFiles(jobs=(job_id,))
    _end_copies(connection, purged)
    if lost_with:
        record_event(connection, job_id, EventKind.RESULTS_LOST, objects=objects, machine=lost_with[:8])
    else:
        record_event(connection, job_id, EventKind.RESULTS_PURGED, objects=objects)
    return purged


def refuse_purged(connection: sa.Connection, of: Job, *, needs_images: bool) -> None:
    """Raise ``NodeError`` when retention has purged what a job would begin with: its images, or else its results."""
    if not needs_images:
        if of.results_purged_at is not None:
            raise NodeError(f"the results of job {of.id} are purged; retry it from {JobStage.INFER}")
        return
    refuse_purged_series(connection, of.study_instance_uid, (of.series_instance_uid, *of.companions.values()))


def refuse_purged_series(connection: sa.Connection, study: str, series_uids: Collection[str]) -> None:
    """Raise ``NodeError`` when retention has purged images of one of these series."""
    purged = sa.select(series.c.series_instance_uid).where(
        series.c.study_instance_uid == study,
        series.c.series_instance_uid.in_(series_uids),
        series.c.purged_images > 0,
    )
    for uid in connection.scalars(purged):
        raise NodeError(
            f"images of series {uid} are purged; have the whole series sent again, for example with `ainode fetch`"
        )


def result_sizes(connection: sa.Connection, pipelines: Collection[str]) -> dict[str, int]:
    """Bytes of the results of some pipelines that are stored."""
    query = (
        sa.select(job.c.pipeline, sa.func.sum(result.c.size))
        .join(result, result.c.job_id == job.c.id)
        .where(job.c.pipeline.in_(pipelines))
        .group_by(job.c.pipeline)
    )
    return {name: int(size) for name, size in connection.execute(query)}


def studies_of_pipelines(connection: sa.Connection, pipelines: Collection[str]) -> list[str]:
    """Studies with results of some pipelines."""
    query = (
        sa.select(job.c.study_instance_uid)
        .join(result, result.c.job_id == job.c.id)
        .where(job.c.pipeline.in_(pipelines))
        .distinct()
    )
    return sorted(connection.scalars(query))


def _end_copies(connection: sa.Connection, purged: PurgedFiles) -> None:
    end_missing_copies(connection, purged.paths)
    delete_packed(connection, purged.paths)
    for job_id in purged.jobs:
        end_missing_copies_below(connection, f"results/{job_id}")
