"""Which studies retention will purge, how large they are, and what still holds them back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.jobs import DELIVERY_OPEN
from node.ledger.states import ACTIVE, SeriesState
from node.ledger.tables import conflict, delivery, excluded, instance, job, result, series


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """A study as retention sees it."""

    study_instance_uid: str
    last_at: float
    """Its last event, in seconds since 1970 UTC; retention counts from here."""
    size: int
    """Bytes of received files and results."""
    receiving: int
    """Series that are not complete."""
    jobs: tuple[str, ...]
    """Jobs that have not ended."""
    destinations: tuple[str, ...]
    """With a pending delivery."""

    @property
    def is_held(self) -> bool:
        """Whether retention keeps it, however old it is."""
        return bool(self.receiving or self.jobs)


def stored_studies(connection: sa.Connection) -> list[StoredStudy]:
    """Every study, the one that rests for longest first."""
    last = sa.union_all(
        sa.select(series.c.study_instance_uid, series.c.last_at.label("at")),
        sa.select(conflict.c.study_instance_uid, conflict.c.received_at),
        sa.select(job.c.study_instance_uid, job.c.updated_at),
    ).subquery()
    sizes = sa.union_all(
        sa.select(instance.c.study_instance_uid, instance.c.size),
        sa.select(conflict.c.study_instance_uid, conflict.c.size),
        sa.select(excluded.c.study_instance_uid, excluded.c.size),
        sa.select(job.c.study_instance_uid, result.c.size).join(result, result.c.job_id == job.c.id),
    ).subquery()
    bytes_of = _by_study(connection, sa.select(sizes.c.study_instance_uid, sa.func.sum(sizes.c.size)))
    receiving = _by_study(
        connection,
        sa.select(series.c.study_instance_uid, sa.func.count()).where(series.c.state != SeriesState.COMPLETE),
    )
    jobs: dict[str, list[str]] = {}
    active = sa.select(job.c.study_instance_uid, job.c.id).where(job.c.state.in_(ACTIVE)).order_by(job.c.created_at)
    for study, job_id in connection.execute(active):
        jobs.setdefault(study, []).append(job_id)
    destinations: dict[str, set[str]] = {}
    pending = sa.select(job.c.study_instance_uid, delivery.c.destination).join(delivery, delivery.c.job_id == job.c.id)
    for study, name in connection.execute(pending.where(job.c.state.in_(ACTIVE), DELIVERY_OPEN)):
        destinations.setdefault(study, set()).add(name)
    query = sa.select(last.c.study_instance_uid, sa.func.max(last.c.at)).group_by(last.c.study_instance_uid)
    return [
        StoredStudy(
            study_instance_uid=study,
            last_at=at,
            size=bytes_of.get(study, 0),
            receiving=receiving.get(study, 0),
            jobs=tuple(jobs.get(study, ())),
            destinations=tuple(sorted(destinations.get(study, ()))),
        )
        for study, at in connection.execute(query.order_by(sa.func.max(last.c.at), last.c.study_instance_uid))
    ]


def _by_study(connection: sa.Connection, query: sa.Select[tuple[str, int]]) -> dict[str, int]:
    rows: Iterable[Any] = connection.execute(query.group_by(query.selected_columns[0]))
    return {study: int(number) for study, number in rows}
