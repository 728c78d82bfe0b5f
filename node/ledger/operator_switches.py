"""What an operator has stopped: pipelines, and destinations (a circuit that only an operator closes). And job facts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from node.ledger.engine import insert_new, now
from node.ledger.tables import circuit, job_fact, stopped


def pause_destination(connection: sa.Connection, destination: str, who: str) -> None:
    """Its deliveries wait, without a probe, until ``node.ledger.circuits.close``."""
    error = f"paused by {who}"
    insert_new(connection, circuit, [{"destination": destination, "failures": 0, "error": error}])
    connection.execute(
        sa.update(circuit)
        .where(circuit.c.destination == destination)
        .values(opened_at=now(), probe_at=None, error=error)
    )


def stop_pipeline(connection: sa.Connection, pipeline: str, who: str) -> None:
    """Its jobs wait before inference; what runs goes on."""
    insert_new(connection, stopped, [{"pipeline": pipeline, "at": now(), "who": who}])


def start_pipeline(connection: sa.Connection, pipeline: str) -> None:
    """Its jobs are due again; ``Jobs.reconcile`` puts them into the queue."""
    connection.execute(sa.delete(stopped).where(stopped.c.pipeline == pipeline))


def stopped_pipelines(connection: sa.Connection) -> dict[str, tuple[float, str]]:
    """Name -> since when (seconds since 1970 UTC), and by whom."""
    return {row.pipeline: (row.at, row.who) for row in connection.execute(sa.select(stopped))}


def record_facts(connection: sa.Connection, job_id: str, pipeline: str, facts: dict[str, Any]) -> None:
    """Keep what one analysis was like; a later run of the job replaces it."""
    connection.execute(sa.delete(job_fact).where(job_fact.c.job_id == job_id))
    connection.execute(sa.insert(job_fact).values(job_id=job_id, pipeline=pipeline, at=now(), **facts))


def latest_facts(connection: sa.Connection, pipeline: str, most: int) -> list[dict[str, Any]]:
    """What the latest analyses of a pipeline were like, newest first."""
    query = sa.select(job_fact).where(job_fact.c.pipeline == pipeline).order_by(job_fact.c.at.desc()).limit(most)
    return [dict(row) for row in connection.execute(query).mappings()]
