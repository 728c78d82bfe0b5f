"""What the audit trail is to tell and no other table holds: starts, stops, logins, refusals, acts, questions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

import sqlalchemy as sa

from node.ledger.engine import begin_immediate, now
from node.ledger.tables import notice


@dataclass(frozen=True, kw_only=True)
class Question:
    """What this node asked another one; its notice lasts until the audit trail has told of it."""

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


What = Literal["start", "stop", "login", "failed login", "logout", "refused", "act", "query"]


def give_notice(engine: sa.Engine, what: What, *, who: str, address: str = "", detail: str = "") -> None:
    """Leave a line for the audit trail, which takes it away."""
    with begin_immediate(engine) as connection:
        row = {"at": now(), "what": what, "who": who, "address": address, "detail": detail}
        connection.execute(sa.insert(notice).values(row))
