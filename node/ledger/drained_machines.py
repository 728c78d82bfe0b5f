"""Machines that an operator drains: their processes begin nothing until that is undone, also after a restart."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.tables import drained

MachineKey = tuple[str, str]
"""The id of the storage folder, which several machines may share, and the name of the host."""


def drain_machines(connection: sa.Connection, machines: Collection[MachineKey]) -> None:
    """Have the processes of some machines begin nothing more."""
    at = ledger_clock(connection)
    insert_new(connection, drained, [{"machine": of, "host_name": name, "at": at} for of, name in sorted(machines)])


def undo_drain(connection: sa.Connection, machines: Collection[MachineKey]) -> None:
    """Let the processes of some machines work again."""
    for of, name in machines:
        connection.execute(sa.delete(drained).where(drained.c.machine == of, drained.c.host_name == name))


def drained_machines(connection: sa.Connection) -> dict[MachineKey, float]:
    """Return every machine that is drained, and since when, in seconds since 1970 UTC."""
    return {(row.machine, row.host_name): row.at for row in connection.execute(sa.select(drained))}
