"""Results: the objects that jobs have made; their transitions are in ``node.ledger.transitions``."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.jobs import REJECTION
from node.ledger.tables import result


class StoredResult(NamedTuple):
    """One object that a job has made."""

    path: str
    """Relative to ``[storage] folder``."""
    kind: str | None
    """``None``: made before kinds were kept."""


def is_of_result(connection: sa.Connection, series_uid: str) -> bool:
    """Whether a series is a result of this node."""
    return (
        connection.scalar(sa.select(result.c.job_id).where(result.c.series_instance_uid == series_uid).limit(1))
        is not None
    )


def result_series(connection: sa.Connection) -> set[str]:
    """Series Instance UIDs of all results."""
    return set(connection.scalars(sa.select(result.c.series_instance_uid).distinct()))


def sendable_results(connection: sa.Connection, job_id: str) -> list[StoredResult]:
    """What a job has made and the gate let pass, without notes on what the job has replaced."""
    note = sa.func.coalesce(result.c.kind, "").startswith(f"{REJECTION} ")
    query = sa.select(result.c.path, result.c.kind).where(
        result.c.job_id == job_id, result.c.quarantine.is_(None), ~note
    )
    return [StoredResult(*row) for row in connection.execute(query)]
