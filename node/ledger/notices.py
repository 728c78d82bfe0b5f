"""What the audit trail is to tell and no other table holds: starts, stops, logins, refused callers, operators' acts."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from node.ledger.engine import begin_immediate, now
from node.ledger.tables import notice

What = Literal["start", "stop", "login", "failed login", "logout", "refused", "act"]


def give_notice(engine: sa.Engine, what: What, *, who: str, address: str = "", detail: str = "") -> None:
    """Leave a line for the audit trail, which takes it away."""
    with begin_immediate(engine) as connection:
        row = {"at": now(), "what": what, "who": who, "address": address, "detail": detail}
        connection.execute(sa.insert(notice).values(row))
