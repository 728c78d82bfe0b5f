"""Bounds of what one device may have in the ledger: procedure steps and Storage Commitment requests.

Retention removes them by age. Between two looks of it a device may only have so many: the oldest of its own that have
ended make room, and what finds no room is refused. No other device is concerned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

MOST_REQUESTS = 20_000
"""Of one device: 1,400 a day with the shipped retention of 14 days."""
MOST_NAMED = 4_000_000
"""Instances and series that all of these name."""
MOST_NAMED_OF_ONE = 131_072
"""Instances and series that one of them names, in all its messages."""


def make_room(
    connection: sa.Connection,
    table: sa.Table,
    equipment: str,
    *,
    rows: int = 1,
    named: int,
    has_ended: sa.ColumnElement[bool],
    remove: Callable[[sa.Connection, Any], None],
) -> bool:
    """Return whether a device may have ``rows`` more in ``table`` that name ``named``.

    ``remove``: removes one of those that have ended.
    """
    of_device = table.c.equipment == equipment
    totals = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.c.named), 0)).where(of_device)
    requests, total = connection.execute(totals).one()
    if requests + rows <= MOST_REQUESTS and total + named <= MOST_NAMED:
        return True
    oldest = sa.select(table).where(of_device, has_ended).order_by(table.c.updated_at)
    for row in connection.execute(oldest).all():
        remove(connection, row)
        requests, total = requests - 1, total - row.named
        if requests + rows <= MOST_REQUESTS and total + named <= MOST_NAMED:
            return True
    return False
