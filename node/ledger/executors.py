"""Executors: processes that execute stages, each with the heartbeat that it renews."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from node.ledger.engine import insert_new, now
from node.ledger.tables import executor


@dataclass(frozen=True, kw_only=True)
class Executor:
    """One process."""

    id: str
    role: str
    host: str
    """The process-id space in which ``pid`` counts."""
    pid: int


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A process and when it renewed its heartbeat."""

    executor: Executor
    at: float


def shared_clock(connection: sa.Connection) -> float:
    """One clock for all: the database server's, where there is a server."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return now()


def renew_beat(connection: sa.Connection, of: Executor, at: float) -> None:
    """Keep that a process is alive at ``at``."""
    if not insert_new(connection, executor, [{**asdict(of), "beat_at": at}]):
        connection.execute(sa.update(executor).where(executor.c.id == of.id).values(beat_at=at))


def other_beats(connection: sa.Connection, executor_id: str) -> list[Beat]:
    """The heartbeats of all others."""
    return [
        Beat(executor=Executor(id=row.id, role=row.role, host=row.host, pid=row.pid), at=row.beat_at)
        for row in connection.execute(sa.select(executor).where(executor.c.id != executor_id))
    ]


def remove_executors(connection: sa.Connection, ids: Collection[str]) -> None:
    """Remove processes that have ended: what they left undone is free."""
    if ids:
        connection.execute(sa.delete(executor).where(executor.c.id.in_(ids)))
