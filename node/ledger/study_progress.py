"""Reads the progress of studies: ``node.ledger.progress`` on the rows of the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from node.ledger.engine import among
from node.ledger.jobs import jobs_of
from node.ledger.progress import Decision, DeliveryProgress, StudyProgress, project
from node.ledger.series import series_of_studies
from node.ledger.states import DeliveryState
from node.ledger.tables import decision, delivery, job, series

_SERIES_OF_STUDY = 4
"""How many series a study may have before the latest studies take another query."""


def latest_studies(connection: sa.Connection, limit: int | None, text: str = "") -> list[str]:
    """Study Instance UIDs, the study with the latest image first; ``limit`` ``None``: all.

    With ``text`` only those whose UID, or the UID of one of their series, or the id of one of their jobs contains it.
    """
    if limit is not None and not text:
        return _latest(connection, limit)
    last = sa.func.max(series.c.last_at)
    query = sa.select(series.c.study_instance_uid).group_by(series.c.study_instance_uid)
    if text:
        named = sa.union(
            sa.select(series.c.study_instance_uid).where(
                sa.or_(
                    series.c.study_instance_uid.contains(text, autoescape=True),
                    series.c.series_instance_uid.contains(text, autoescape=True),
                )
            ),
            sa.select(job.c.study_instance_uid).where(job.c.id.contains(text, autoescape=True)),
        )
        query = query.where(series.c.study_instance_uid.in_(named))
    return list(connection.scalars(query.order_by(last.desc()).limit(limit)))


def _latest(connection: sa.Connection, limit: int) -> list[str]:
    """Read series from the end of their index, until enough studies are among them."""
    query = sa.select(series.c.study_instance_uid).order_by(series.c.last_at.desc(), series.c.series_instance_uid)
    wanted = limit
    while True:
        wanted *= _SERIES_OF_STUDY
        rows = list(connection.scalars(query.limit(wanted)))
        studies = list(dict.fromkeys(rows))
        if len(studies) >= limit or len(rows) < wanted:
            return studies[:limit]


def progress_of(connection: sa.Connection, studies: Collection[str]) -> list[StudyProgress]:
    """How far each of ``studies`` is, in their order; without those that have no series."""
    projected = project(
        series_of_studies(connection, studies),
        _decisions(connection, studies),
        jobs_of(connection, studies),
        _deliveries(connection, studies),
    )
    place = {uid: number for number, uid in enumerate(studies)}
    return sorted(projected, key=lambda study: place[study.study_instance_uid])


def _decisions(connection: sa.Connection, studies: Collection[str]) -> Iterator[Decision]:
    names = tuple(Decision.__dataclass_fields__)
    query = sa.select(*decision.c[names]).where(among(connection, decision.c.study_instance_uid, studies))
    rows: Iterable[Any] = connection.execute(query)
    return (Decision(**dict(zip(names, row, strict=True))) for row in rows)


def _deliveries(connection: sa.Connection, studies: Collection[str]) -> Iterator[DeliveryProgress]:
    query = (
        sa.select(*delivery.c["job_id", "destination", "state", "ended_at"])
        .join(job, job.c.id == delivery.c.job_id)
        .where(among(connection, job.c.study_instance_uid, studies))
    )
    return (
        DeliveryProgress(job_id=job_id, destination=destination, state=DeliveryState(state), ended_at=ended_at)
        for job_id, destination, state, ended_at in connection.execute(query)
    )
