"""What an operator has stopped: pipelines, and destinations (a circuit that only an operator closes)."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.pipeline_failures import reset_failures
from node.ledger.tables import circuit, stopped


def pause_destination(connection: sa.Connection, destination: str, who: str) -> None:
    """Its deliveries wait, without a probe, until ``node.ledger.destination_circuits.close``."""
    error = f"paused by {who}"
    insert_new(connection, circuit, [{"destination": destination, "failures": 0, "error": error}])
    connection.execute(
        sa.update(circuit)
        .where(circuit.c.destination == destination)
        .values(opened_at=ledger_clock(connection), probe_at=None, error=error)
    )


def stop_pipeline(connection: sa.Connection, pipeline: str, who: str) -> None:
    """Its jobs wait before inference; what runs goes on."""
    insert_new(connection, stopped, [{"pipeline": pipeline, "at": ledger_clock(connection), "who": who}])


def start_pipeline(connection: sa.Connection, pipeline: str) -> None:
    """Its jobs are due again; ``Jobs.reconcile`` puts those into the queue that are in none."""
    reset_failures(connection, pipeline)
    connection.execute(sa.delete(stopped).where(stopped.c.pipeline == pipeline))


def stopped_pipelines(connection: sa.Connection) -> dict[str, tuple[float, str]]:
    """Name -> since when (seconds since 1970 UTC), and by whom."""
    return {row.pipeline: (row.at, row.who) for row in connection.execute(sa.select(stopped))}


def is_stopped(connection: sa.Connection, pipeline: str) -> bool:
    """Whether an operator has stopped the pipeline."""
    return connection.scalar(sa.select(stopped.c.pipeline).where(stopped.c.pipeline == pipeline)) is not None
