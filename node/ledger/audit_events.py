"""Audit events that no other table holds: starts, stops, logins, refusals, operator actions, queries."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.states import NoticeKind
from node.ledger.tables import notice


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query of this node to another system, kept until it is in the audit trail."""

    about: str
    """SOP Class UID of the query, or the address of a QIDO-RS request."""
    identifier: str
    """Base64: the data set of a query, the whole request of QIDO-RS."""
    transfer_syntax_uid: str = ""
    """How the data set is encoded; empty: there is none."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Question:
        return cls(**json.loads(text))


def give_notice(engine: sa.Engine, what: NoticeKind, *, who: str, address: str = "", detail: str = "") -> None:
    """Record an event for the audit trail, which removes it."""
    with begin_immediate(engine) as connection:
        add_notice(connection, what, who=who, address=address, detail=detail)


def add_notice(connection: sa.Connection, what: NoticeKind, *, who: str, address: str = "", detail: str = "") -> None:
    """Record an event for the audit trail in the transaction of what it is about."""
    row = {"at": ledger_clock(connection), "what": what, "who": who, "address": address, "detail": detail}
    connection.execute(sa.insert(notice).values(row))
