"""Outages of the object store: since when, and why, a machine cannot use it. No row: it can."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.members import beats
from node.ledger.states import MemberState
from node.ledger.tables import store_outage


class StoreOutage(NamedTuple):
    """What a machine cannot do with the object store."""

    host_name: str
    """Of the machine."""
    since: float
    """By the ledger's clock."""
    error: str
    """The last answer."""


def record_outage(connection: sa.Connection, machine: str, error: str) -> None:
    """Record that a machine cannot use the store; it began with the first of these records."""
    row = {"machine": machine, "since": ledger_clock(connection), "error": error}
    if not insert_new(connection, store_outage, [row]):
        connection.execute(sa.update(store_outage).where(store_outage.c.machine == machine).values(error=error))


def end_outage(connection: sa.Connection, machine: str) -> bool:
    """Record that a machine can use the store; return whether it could not before."""
    return bool(connection.execute(sa.delete(store_outage).where(store_outage.c.machine == machine)).rowcount)


def store_outages(connection: sa.Connection) -> list[StoreOutage]:
    """Return the outages that machines of the fleet have now, the longest first; those that are gone see nothing."""
    names = {beat.member.machine: beat.member.host_name for beat in beats(connection) if beat.state != MemberState.LOST}
    rows = connection.execute(sa.select(store_outage).order_by(store_outage.c.since))
    return [StoreOutage(names[row.machine], row.since, row.error) for row in rows if row.machine in names]
