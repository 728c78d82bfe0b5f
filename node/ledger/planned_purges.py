"""What is stored of each study, as retention sees it: how large it is, what was decided on it, and what is pending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.jobs import DELIVERY_OPEN
from node.ledger.states import ACTIVE, DecisionOutcome, DeliveryState, JobState, SeriesState
from node.ledger.tables import LATEST_DECISION, conflict, decision, delivery, excluded, job, result, series
from node.ledger.workitem_subscriptions import locked_studies

_PORTION = 200
"""Studies that are read at once."""


@dataclass(frozen=True, kw_only=True)
class StoredSeries:
    """The images of a series."""

    series_instance_uid: str
    size: int
    """Bytes."""
    images: int
    is_complete: bool
    outcome: DecisionOutcome | None
    """Of the decision on its latest generation; ``None``: there is none yet."""
    rules: tuple[str, ...]
    """Those that its latest decision found to match."""
    is_disputed: bool = False
    """An image was received again with other content, or an operator has excluded one."""


@dataclass(frozen=True, kw_only=True)
class StoredResults:
    """The results of a job."""

    job_id: str
    series_instance_uid: str
    pipeline: str
    size: int
    """Bytes."""
    objects: int
    is_active: bool
    """Its job has not ended."""
    destinations: tuple[str, ...]
    """That have, or are to get, them."""
    pending: tuple[str, ...]
    """Destinations with a pending delivery."""
    delivered_at: float | None
    """When the last of its destinations had everything; ``None``: one has not, or there is none."""
    is_confirmed: bool
    """All destinations have proved that they keep everything."""
    is_quarantined: bool
    """The gate holds one of them back."""


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """A study as retention sees it."""

    study_instance_uid: str
    last_at: float
    """Its last event, in seconds since 1970 UTC; retention counts from here."""
    series: tuple[StoredSeries, ...] = ()
    results: tuple[StoredResults, ...] = ()
    """Of every job, also of one without any."""
    other_size: int = 0
    """Bytes of files that are no images of a series: conflicts, and what an operator has excluded."""
    is_locked: bool = False
    """A subscriber has locked one of its workitems."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        parts = (*(series.size for series in self.series), *(result.size for result in self.results), self.other_size)
        return sum(parts)

    @property
    def receiving(self) -> int:
        """Series that are not complete."""
        return sum(not series.is_complete for series in self.series)

    @property
    def held(self) -> int:
        """Series whose identities an operator has to decide on."""
        return sum(series.outcome == DecisionOutcome.HELD for series in self.series)

    @property
    def active(self) -> int:
        """Jobs that have not ended."""
        return sum(result.is_active for result in self.results)

    @property
    def pending(self) -> tuple[str, ...]:
        """Destinations with a pending delivery."""
        return tuple(sorted({name for result in self.results for name in result.pending}))

    @property
    def is_held(self) -> bool:
        """Whether retention keeps all of it, however old it is."""
        return bool(self.receiving or self.held or self.active or self.pending)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is pending and every series is decided on: it may be purged in parts."""
        decided = (DecisionOutcome.ROUTED, DecisionOutcome.IGNORED)
        return not self.is_held and all(series.outcome in decided for series in self.series)


def all_stored_studies(connection: sa.Connection) -> list[StoredStudy]:
    """Every study, the one that rests for longest first."""
    received = sa.union(sa.select(series.c.study_instance_uid), sa.select(conflict.c.study_instance_uid))
    every = in_portions(connection, sorted(connection.scalars(received)))
    return sorted(every, key=lambda study: (study.last_at, study.study_instance_uid))


def in_portions(connection: sa.Connection, studies: Sequence[str]) -> Iterator[StoredStudy]:
    """Some studies, read a portion at a time."""
    for begin in range(0, len(studies), _PORTION):
        yield from stored_studies(connection, studies[begin : begin + _PORTION])


def stored_studies(connection: sa.Connection, studies: Collection[str]) -> list[StoredStudy]:
    """Those of ``studies`` of which anything was received."""
    disputed, other_size, last = set(), Counter[str](), dict[str, float]()
    columns = ("study_instance_uid", "series_instance_uid", "size", "received_at")
    for table in (conflict, excluded):
        query = sa.select(*table.c[columns]).where(table.c.study_instance_uid.in_(studies))
        for study, uid, size, at in connection.execute(query):
            disputed.add((study, uid))
            other_size[study] += size
            last[study] = max(at, last.get(study, at))
    received: dict[str, list[StoredSeries]] = {}
    for row in connection.execute(_SERIES.where(series.c.study_instance_uid.in_(studies))):
        study, uid = row.study_instance_uid, row.series_instance_uid
        last[study] = max(row.last_at, last.get(study, row.last_at))
        received.setdefault(study, []).append(
            StoredSeries(
                series_instance_uid=uid,
                size=row.size,
                images=row.instances,
                is_complete=row.state == SeriesState.COMPLETE,
                outcome=None if row.outcome is None else DecisionOutcome(row.outcome),
                rules=tuple(dict.fromkeys(entry["rule"] for entry in row.trace or () if entry["matched"])),
                is_disputed=(study, uid) in disputed,
            )
        )
    by_study: dict[str, list[StoredResults]] = {}
    for study, updated_at, results in _results(connection, studies):
        by_study.setdefault(study, []).append(results)
        if study in last:
            last[study] = max(updated_at, last[study])
    locked = locked_studies(connection, studies)
    return [
        StoredStudy(
            study_instance_uid=study,
            last_at=at,
            series=tuple(received.get(study, ())),
            results=tuple(by_study.get(study, ())),
            other_size=other_size[study],
            is_locked=study in locked,
        )
        for study, at in last.items()
    ]


_SERIES = (
    sa.select(
        *series.c["study_instance_uid", "series_instance_uid", "size", "instances", "state", "last_at"],
        *decision.c["outcome", "trace"],
    )
    .outerjoin(decision, LATEST_DECISION)
    .order_by(series.c.first_at, series.c.series_instance_uid)
)


def _results(connection: sa.Connection, studies: Collection[str]) -> Iterator[tuple[str, float, StoredResults]]:
    """Study, time of the last change and results of every job of some studies."""
    of_studies = job.c.study_instance_uid.in_(studies)
    quarantined = sa.func.count(result.c.quarantine)
    columns = job.c["id", "study_instance_uid", "series_instance_uid", "pipeline", "state", "updated_at"]
    query = (
        sa.select(
            *columns,
            sa.func.count(result.c.sop_instance_uid).label("objects"),
            sa.func.coalesce(sa.func.sum(result.c.size), 0).label("size"),
            quarantined.label("quarantined"),
        )
        .outerjoin(result, result.c.job_id == job.c.id)
        .where(of_studies)
        .group_by(*columns)
    )
    sent: dict[str, list[Any]] = {}
    query_of_sent = sa.select(
        *delivery.c["job_id", "destination", "state", "ended_at", "updated_at"], DELIVERY_OPEN.label("is_open")
    ).join(job, job.c.id == delivery.c.job_id)
    for row in connection.execute(query_of_sent.where(of_studies).order_by(delivery.c.destination)):
        sent.setdefault(row.job_id, []).append(row)
    for row in connection.execute(query.order_by(job.c.id)):
        deliveries = sent.get(row.id, [])
        wanted = row.state != JobState.CANCELED
        times = [_delivered_at(record) for record in deliveries]
        yield (
            row.study_instance_uid,
            row.updated_at,
            StoredResults(
                job_id=row.id,
                series_instance_uid=row.series_instance_uid,
                pipeline=row.pipeline,
                size=int(row.size),
                objects=row.objects,
                is_active=row.state in ACTIVE,
                destinations=tuple(record.destination for record in deliveries),
                pending=tuple(record.destination for record in deliveries if wanted and record.is_open),
                delivered_at=max((at for at in times if at is not None), default=None) if None not in times else None,
                is_confirmed=all(record.state == DeliveryState.CONFIRMED for record in deliveries),
                is_quarantined=bool(row.quarantined),
            ),
        )


def _delivered_at(record: Any) -> float | None:
    if record.state == DeliveryState.CONFIRMED:
        return float(record.updated_at)
    return None if record.state != DeliveryState.STORED or record.ended_at is None else float(record.ended_at)
