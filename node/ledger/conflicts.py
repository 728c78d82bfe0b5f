"""Rows of conflicts: instances received again with different bytes.

``node.spool.spool`` keeps both files, ``node.ledger.instances`` makes the row and has the first one count,
``node.routing.conflicts`` compares them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.clock import ledger_clock
from node.ledger.engine import among
from node.ledger.events import EventKind, record_study_event
from node.ledger.states import ACTIVE, ConflictKind
from node.ledger.tables import conflict, instance, job
from node.ledger.transitions import cancel_active
from node.reasons import ReasonCode, reason

_MOVED = frozenset(("StudyInstanceUID", "SeriesInstanceUID"))
"""Of an image under a UID that was used before: no correction of the first one."""
SAME_IMAGE = sa.and_(
    *(conflict.c[uid] == instance.c[uid] for uid in ("sop_instance_uid", "study_instance_uid", "series_instance_uid"))
)
"""A conflict with the first file of its image, not one of two images that share a SOP Instance UID."""

_STUDY: sa.BindParameter[str] = sa.bindparam("study")
_SERIES: sa.BindParameter[str] = sa.bindparam("series")
_OF_SERIES = (
    sa.select(
        conflict.c.received_at,
        conflict.c.kind,
        conflict.c.changed,
        sa.or_(instance.c.study_instance_uid != _STUDY, instance.c.series_instance_uid != _SERIES).label("elsewhere"),
    )
    .join(instance, instance.c.sop_instance_uid == conflict.c.sop_instance_uid)
    .where(conflict.c.study_instance_uid == _STUDY, conflict.c.series_instance_uid == _SERIES)
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two files of one SOP Instance that were not compared yet."""

    sop_instance_uid: str
    study_instance_uid: str
    """Of the file that was first."""
    series_instance_uid: str
    first: str
    """Path of the file that counts."""
    second: str
    """Path of the one that is kept beside it."""


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """A file of a series that came under the SOP Instance UID of another file."""

    received_at: float
    kind: ConflictKind | None
    """``None``: not compared yet."""
    changed: frozenset[str]
    """Keywords of what differs."""
    elsewhere: bool
    """The other file is an image of another series."""


@dataclass(frozen=True, kw_only=True)
class ConflictRecord:
    """An image that was received again as another file; both are kept."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    path: str
    digest: str
    size: int
    association_id: str | None
    received_at: float
    kind: str | None
    """Of ``ConflictKind``; ``None``: not compared yet."""
    changed: str | None
    """Keywords of what differs."""
    transfer_syntax_uid: str | None
    replaced_at: float | None
    """Since when another identity counts in place of this one."""


def conflicts_of_series(connection: sa.Connection, study: str, series: str) -> list[Conflict]:
    """Every conflict of which the later file names this series."""
    return [
        Conflict(
            received_at=row.received_at,
            kind=ConflictKind(row.kind) if row.kind else None,
            changed=frozenset((row.changed or "").split(", ")),
            elsewhere=bool(row.elsewhere),
        )
        for row in connection.execute(_OF_SERIES, {"study": study, "series": series})
    ]


def pairs_to_compare(connection: sa.Connection, limit: int = 200) -> list[Pair]:
    """Return the oldest conflicts that are not classified yet."""
    query = (
        sa.select(
            conflict.c.sop_instance_uid,
            instance.c.study_instance_uid,
            instance.c.series_instance_uid,
            instance.c.path.label("first"),
            conflict.c.path.label("second"),
        )
        .join(instance, instance.c.sop_instance_uid == conflict.c.sop_instance_uid)
        .where(conflict.c.kind.is_(None))
        .order_by(conflict.c.received_at)
        .limit(limit)
    )
    return [Pair(**row) for row in connection.execute(query).mappings()]


def record_differences(connection: sa.Connection, differences: Sequence[tuple[Pair, ConflictKind, str]]) -> None:
    """Keep ``(pair, kind, keywords)``; the timeline gets one line for all images of a series that changed alike.

    Nothing more is made or sent of a series under an identity that is being corrected.
    """
    alike: dict[tuple[str, str, ConflictKind, str], int] = {}
    for pair, kind, changed in differences:
        this = conflict.c.path == pair.second
        connection.execute(sa.update(conflict).where(this).values(kind=kind, changed=changed))
        group = (pair.study_instance_uid, pair.series_instance_uid, kind, changed)
        alike[group] = alike.get(group, 0) + 1
    for (study, series, kind, changed), count in alike.items():
        record_study_event(
            connection,
            EventKind.IMAGES_CHANGED,
            at=ledger_clock(connection),
            study_instance_uid=study,
            series_instance_uid=series,
            change=kind,
            images=count,
            keywords=changed,
        )
        if kind == ConflictKind.IDENTITY and _MOVED.isdisjoint(changed.split(", ")):
            hold(connection, study, series, changed)


def begun_meanwhile(connection: sa.Connection) -> list[tuple[str, str, str]]:
    """Study, series and what changed, where something is being made of images that are being corrected.

    The series was not complete yet when they came, or the ledger was rebuilt. What people began again goes on.
    """
    of_image = sa.and_(*(job.c[uid] == instance.c[uid] for uid in ("study_instance_uid", "series_instance_uid")))
    query = (
        sa.select(job.c.study_instance_uid, job.c.series_instance_uid, sa.func.min(conflict.c.changed))
        .join(instance, of_image)
        .join(conflict, SAME_IMAGE)
        .where(conflict.c.kind == ConflictKind.IDENTITY, conflict.c.replaced_at.is_(None))
        .where(job.c.state.in_(ACTIVE), job.c.pipeline != FORWARD, job.c.run == 0)
        .group_by(job.c.study_instance_uid, job.c.series_instance_uid)
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def hold(connection: sa.Connection, study: str, series: str, changed: str) -> None:
    """Hold the jobs of a series whose identity is being corrected."""
    theirs = sa.and_(job.c.study_instance_uid == study, job.c.series_instance_uid == series)
    cancel_active(connection, theirs, reason(ReasonCode.RECEIVED_AGAIN, keywords=changed))


def latest_conflicts(connection: sa.Connection, limit: int) -> list[ConflictRecord]:
    """Newest first."""
    return _conflicts(connection, sa.select(conflict).order_by(conflict.c.received_at.desc()).limit(limit))


def conflicts_of_study(connection: sa.Connection, study: str) -> list[ConflictRecord]:
    """Oldest first."""
    of_study = conflict.c.study_instance_uid == study
    return _conflicts(connection, sa.select(conflict).where(of_study).order_by(conflict.c.received_at))


def all_conflicts(connection: sa.Connection) -> list[ConflictRecord]:
    """Oldest first."""
    return _conflicts(connection, sa.select(conflict).order_by(conflict.c.received_at))


def _conflicts(connection: sa.Connection, query: sa.Select[tuple[Any, ...]]) -> list[ConflictRecord]:
    return [ConflictRecord(**row) for row in connection.execute(query).mappings()]


def conflicts_by_study(connection: sa.Connection, studies: Collection[str]) -> dict[str, int]:
    """How many conflicts each of ``studies`` has; without those that have none."""
    query = sa.select(conflict.c.study_instance_uid, sa.func.count()).group_by(conflict.c.study_instance_uid)
    rows = connection.execute(query.where(among(connection, conflict.c.study_instance_uid, studies)))
    return {str(study): number for study, number in rows}
