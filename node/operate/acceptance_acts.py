"""Acts of an operator on reports of acceptance tests: approval, and its withdrawal."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.acceptances import Acceptance, approve_acceptance, withdraw_acceptance
from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.states import NoticeKind
from node.operate.stated_reason import stated_reason


def approve_report(engine: sa.Engine, report: str, *, reason: str, who: str) -> Acceptance:
    """Let the version of a report send results. Raises ``NodeError`` without a reason, or when it may already."""
    why = stated_reason(reason)
    with begin_immediate(engine) as connection:
        approved = approve_acceptance(connection, report, who=who, reason=why)
        _record(connection, "approved", approved, who, why)
    return approved


def withdraw_approval(engine: sa.Engine, report: str, *, reason: str, who: str) -> Acceptance:
    """Take back an approval. Raises ``NodeError`` without a reason, or when there is none."""
    why = stated_reason(reason)
    with begin_immediate(engine) as connection:
        withdrawn = withdraw_acceptance(connection, report, reason=why)
        _record(connection, "withdrew the approval of", withdrawn, who, why)
    return withdrawn


def _record(connection: sa.Connection, act: str, of: Acceptance, who: str, why: str) -> None:
    text = f"{act} acceptance report {of.id} of pipeline {of.pipeline} {of.version}: {why}"
    add_notice(connection, NoticeKind.ACT, who=who, detail=text)
