"""Circuits: one per destination, open after repeated connection failures, closed when a probe succeeds.

While it is open the deliveries wait, and one probe at a time asks for all of them, whichever process makes it
(``node.deliver.destination_watch``).
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.tables import circuit, delivery

FAILURES = 3
"""Connections in a row that fail before the deliveries of a destination wait for a probe."""


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """A destination with recent connection failures."""

    destination: str
    failures: int
    """In a row."""
    opened_at: float | None
    """Since when its deliveries wait; ``None``: they are still tried."""
    probe_at: float | None
    """When it is asked next; ``None`` while it is open: somebody paused it."""
    error: str

    @property
    def paused(self) -> bool:
        """Whether its deliveries wait for an operator, not for a probe."""
        return self.opened_at is not None and self.probe_at is None


def circuits(connection: sa.Connection) -> list[Circuit]:
    """Return every destination with failures since it was last reached, by name."""
    rows = connection.execute(sa.select(circuit).order_by(circuit.c.destination)).mappings()
    return [Circuit(**row) for row in rows]


def record_failure(connection: sa.Connection, destination: str, error: str, at: float, probe_at: float) -> bool:
    """Count a connection that failed; return whether this one opened the circuit."""
    insert_new(connection, circuit, [{"destination": destination, "failures": 0, "error": error}])
    row = _locked(connection, destination)
    failures = row.failures + 1 if row is not None else 1
    opens = failures >= FAILURES and (row is None or row.opened_at is None)
    values = {"failures": failures, "error": error, **({"opened_at": at, "probe_at": probe_at} if opens else {})}
    connection.execute(sa.update(circuit).where(circuit.c.destination == destination).values(**values))
    return opens


def reset_failures(connection: sa.Connection, destination: str) -> None:
    """Reset the failure count after a successful delivery. An open circuit stays open until a probe closes it."""
    connection.execute(sa.delete(circuit).where(circuit.c.destination == destination, circuit.c.opened_at.is_(None)))


def close(connection: sa.Connection, destination: str) -> None:
    """Close the circuit and make pending deliveries due now."""
    connection.execute(sa.delete(circuit).where(circuit.c.destination == destination))
    waiting = sa.and_(delivery.c.destination == destination, delivery.c.next_at.is_not(None))
    connection.execute(sa.update(delivery).where(waiting).values(next_at=ledger_clock(connection), error=None))


def open_circuit(connection: sa.Connection, destination: str) -> Circuit | None:
    """Return the open circuit of a destination; it is not closed before the caller's transaction ends."""
    row = _locked(connection, destination)
    if row is None or row.opened_at is None:
        return None
    return Circuit(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def take_probe(connection: sa.Connection, destination: str, at: float, next_at: float) -> bool:
    """Whether the caller is the one to probe now; the next probe is due at ``next_at``."""
    due = sa.or_(circuit.c.probe_at <= at, circuit.c.probe_at > next_at)  # the clock was set back
    which = sa.and_(circuit.c.destination == destination, due)
    return connection.execute(sa.update(circuit).where(which).values(probe_at=next_at)).rowcount == 1


def _locked(connection: sa.Connection, destination: str) -> sa.Row[tuple[object, ...]] | None:
    return connection.execute(sa.select(circuit).where(circuit.c.destination == destination).with_for_update()).first()
