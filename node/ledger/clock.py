"""The clock of the ledger: the one that all machines share. Every time in the ledger is by it."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from node.ledger.engine import CLOCK, ServerClock, now

FAR_SECONDS = 5.0
"""Clocks that differ by more are reported."""


class ClockOffset(NamedTuple):
    """By how many seconds the clock of this machine is ahead of the ledger's; it may be ``error`` more or less."""

    seconds: float
    error: float
    """Half of the time that the server took to answer, and this process to read its clock."""


def ledger_clock(connection: sa.Connection) -> float:
    """Return now, in seconds since 1970 UTC: by PostgreSQL's own clock, on SQLite by that of the machine.

    Costs a query every few seconds.
    """
    if connection.dialect.name != "postgresql":
        return now()
    return _server_clock(connection).read(connection)


def clock_offset(connection: sa.Connection) -> ClockOffset | None:
    """Measure the offset of this machine's clock; ``None`` with SQLite, where it is the ledger's clock."""
    if connection.dialect.name != "postgresql":
        return None
    clock = _server_clock(connection)
    (least, _), here, (later, trip) = clock.read_within(connection), now(), clock.read_within(connection)
    return ClockOffset(here - (least + later + trip) / 2, (later + trip - least) / 2)


def _server_clock(connection: sa.Connection) -> ServerClock:
    clock: ServerClock = connection.get_execution_options().get(CLOCK) or ServerClock()
    return clock


def clock_of(engine: sa.Engine) -> float:
    """Return now by the clock of the ledger, for whoever has no connection."""
    with engine.connect() as connection:
        return ledger_clock(connection)


def ahead_of_machine(connection: sa.Connection) -> float:
    """Return by how many seconds the ledger's clock is ahead of this machine's; 0 where they agree to a second."""
    seconds = ledger_clock(connection) - now()
    return seconds if abs(seconds) > 1.0 else 0.0


class LedgerTime(sa.ColumnElement[float]):
    """The clock of the ledger inside a statement."""

    type = sa.Double()
    inherit_cache = True


@compiles(LedgerTime)
def _of_machine(*_of: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"  # SQLite: days since noon of 4714 BC


@compiles(LedgerTime, "postgresql")
def _of_server(*_of: Any, **_options: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"
