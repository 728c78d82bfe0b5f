"""Series as values, and how they become complete."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from node.ledger.engine import among
from node.ledger.events import EventKind, record_study_event
from node.ledger.states import DecisionOutcome, SeriesState
from node.ledger.tables import commitment_instance, decision, instance, procedure_step_instance, series
from node.reasons import Reason


@dataclass(frozen=True, kw_only=True)
class Series:
    """A received series; see ``node.ledger.tables`` for the columns."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: int
    first_at: float
    last_at: float
    state: SeriesState
    generation: int
    refused_at: float | None
    """When the node last learned that an image of it was not taken."""
    purged_images: int = 0
    """Images that retention has purged, until as many are here again."""


def receiving_series(connection: sa.Connection) -> list[Series]:
    """Series that are not complete, or to which late images came."""
    return _series(connection, series.c.state == SeriesState.RECEIVING)


def series_of_study(connection: sa.Connection, study: str) -> list[Series]:
    """Every series of a study."""
    return _series(connection, series.c.study_instance_uid == study)


def series_of_studies(connection: sa.Connection, studies: Collection[str]) -> list[Series]:
    """Every series of some studies, in the order of their first image."""
    of_studies = among(connection, series.c.study_instance_uid, studies)
    return sorted(_series(connection, of_studies), key=attrgetter("first_at"))


def instance_counts(connection: sa.Connection) -> dict[str, int]:
    """How many instances of each series were received, purged ones included, by Series Instance UID."""
    columns = series.c["series_instance_uid", "instances", "purged_images"]
    return {row[0]: max(row[1:]) for row in connection.execute(sa.select(*columns))}


def instance_count(connection: sa.Connection, study_uid: str, series_uid: str) -> int:
    """How many instances of a series are here."""
    which = sa.and_(series.c.study_instance_uid == study_uid, series.c.series_instance_uid == series_uid)
    return int(connection.scalar(sa.select(series.c.instances).where(which)) or 0)


def listed_series(connection: sa.Connection) -> set[tuple[str, str]]:
    """Study and Series Instance UID of the series being received for which a list of instances exists."""
    key = (series.c.study_instance_uid, series.c.series_instance_uid)
    steps = (
        sa.select(*key)
        .join(procedure_step_instance, procedure_step_instance.c.series_instance_uid == series.c.series_instance_uid)
        .where(series.c.state == SeriesState.RECEIVING)
    )
    requests = (
        sa.select(*key)
        .join(
            instance,
            sa.and_(
                instance.c.study_instance_uid == series.c.study_instance_uid,
                instance.c.series_instance_uid == series.c.series_instance_uid,
            ),
        )
        .join(commitment_instance, commitment_instance.c.sop_instance_uid == instance.c.sop_instance_uid)
        .where(series.c.state == SeriesState.RECEIVING)
    )
    return {(row[0], row[1]) for row in connection.execute(sa.union(steps, requests))}


def complete_series(connection: sa.Connection, of: Series, signal: Reason, at: float) -> bool:
    """Begin the next generation of a series that is still as ``of`` says.

    ``False``, and nothing written, when an image came or was refused in between, or another router was faster.
    """
    taken = connection.execute(
        sa.update(series)
        .where(
            _is(of.study_instance_uid, of.series_instance_uid),
            series.c.state == SeriesState.RECEIVING,
            series.c.instances == of.instances,
            series.c.last_at == of.last_at,
            series.c.refused_at.is_not_distinct_from(of.refused_at),
        )
        .values(
            state=SeriesState.COMPLETE,
            generation=of.generation + 1,
            completed_by=signal["code"],
            completed_at=at,
            doubts=sa.null(),
            purged_images=of.purged_images if of.instances < of.purged_images else 0,
        )
    )
    if taken.rowcount != 1:
        return False
    record_study_event(
        connection,
        EventKind.SERIES_COMPLETE,
        at=at,
        study_instance_uid=of.study_instance_uid,
        series_instance_uid=of.series_instance_uid,
        signal=signal,
    )
    return True


def reopen_ignored(connection: sa.Connection, study: str, series_uid: str, at: float) -> bool:
    """Have the router decide again on a series whose latest generation was ignored; ``False`` when it was not."""
    ignored = sa.exists().where(
        decision.c.study_instance_uid == study,
        decision.c.series_instance_uid == series_uid,
        decision.c.generation == series.c.generation,
        decision.c.outcome == DecisionOutcome.IGNORED,
    )
    reopened = connection.execute(
        sa.update(series)
        .where(_is(study, series_uid), series.c.state == SeriesState.COMPLETE, ignored)
        .values(state=SeriesState.RECEIVING)
    )
    if reopened.rowcount != 1:
        return False
    record_study_event(connection, EventKind.REROUTED, at=at, study_instance_uid=study, series_instance_uid=series_uid)
    return True


def defer_completion(
    connection: sa.Connection,
    study: str,
    series_uid: str,
    deferrals: Sequence[Mapping[str, Any]],
    *,
    at: float,
    in_timeline: bool,
) -> None:
    """Record why a series is not complete yet, as the column ``doubts`` has it."""
    if in_timeline:
        record_study_event(
            connection,
            EventKind.SERIES_WAITING,
            at=at,
            study_instance_uid=study,
            series_instance_uid=series_uid,
            deferrals=list(deferrals),
        )
    connection.execute(sa.update(series).where(_is(study, series_uid)).values(doubts=list(deferrals)))


def _is(study: str, series_uid: str) -> sa.ColumnElement[bool]:
    return sa.and_(series.c.study_instance_uid == study, series.c.series_instance_uid == series_uid)


def _series(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Series]:
    names = tuple(field.name for field in fields(Series))
    rows: Iterable[Any] = connection.execute(sa.select(*series.c[names]).where(where))
    values = (dict(zip(names, row, strict=True)) for row in rows)
    return [Series(**row | {"state": SeriesState(row["state"])}) for row in values]
