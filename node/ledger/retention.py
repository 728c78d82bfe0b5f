"""Purging a study: which studies are old enough, and the removal of their rows."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.instances import hold_receipts
from node.ledger.missing_copies import end_missing_copies, end_missing_copies_below
from node.ledger.states import ACTIVE, SeriesState
from node.ledger.tables import (
    candidate,
    conflict,
    decision,
    delivery,
    delivery_instance,
    delivery_kind,
    event,
    excluded,
    instance,
    job,
    original,
    reader_object,
    reader_query,
    refusal,
    replaced,
    result,
    series,
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
class StudyPurge:
    """What remains to be deleted of a study whose rows are removed."""

    jobs: tuple[str, ...]
    paths: tuple[str, ...]
    """Of received files, relative to ``[storage] folder``."""


def purge_study(connection: sa.Connection, study: str, before: float) -> StudyPurge | None:
    """Remove every row of a study; ``None`` when it is in use, or anything of it is not older than ``before``.

    Until the transaction ends no received file is recorded, and no job of the study is retried.
    """
    hold_receipts(connection)
    jobs = sa.select(job.c.id).where(job.c.study_instance_uid == study)
    connection.execute(jobs.with_for_update())
    if _is_in_use(connection, study, before):
        return None
    files = (
        sa.select(instance.c.path)
        .where(instance.c.study_instance_uid == study)
        .union_all(
            sa.select(conflict.c.path).where(conflict.c.study_instance_uid == study),
            sa.select(excluded.c.path).where(excluded.c.study_instance_uid == study),
        )
    )
    purged = StudyPurge(jobs=tuple(connection.scalars(jobs)), paths=tuple(connection.scalars(files)))
    for table in (delivery_instance, delivery_kind, delivery, original, replaced, result):
        connection.execute(sa.delete(table).where(table.c.job_id.in_(jobs)))
    for table in (
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
    ):
        connection.execute(sa.delete(table).where(table.c.study_instance_uid == study))
    end_missing_copies(connection, purged.paths)
    for job_id in purged.jobs:
        end_missing_copies_below(connection, f"results/{job_id}")
    return purged


def _is_in_use(connection: sa.Connection, study: str, before: float) -> bool:
    recent = (
        sa.select(series.c.study_instance_uid).where(
            series.c.study_instance_uid == study,
            sa.or_(series.c.state != SeriesState.COMPLETE, series.c.last_at >= before),
        ),
        sa.select(conflict.c.study_instance_uid).where(
            conflict.c.study_instance_uid == study, conflict.c.received_at >= before
        ),
        sa.select(job.c.study_instance_uid).where(
            job.c.study_instance_uid == study, sa.or_(job.c.state.in_(ACTIVE), job.c.updated_at >= before)
        ),
    )
    return connection.scalar(sa.union_all(*recent).limit(1)) is not None
