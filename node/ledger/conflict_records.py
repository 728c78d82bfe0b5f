"""Conflicts as their rows say, for those who show or count them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.tables import conflict


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
    rows = connection.execute(query.where(conflict.c.study_instance_uid.in_(studies)))
    return {str(study): number for study, number in rows}
