"""Act of an operator: an export of images for training."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.states import NoticeKind


def record_export(engine: sa.Engine, pipeline: str, cases: int, *, who: str) -> None:
    """Record in the audit trail who exported how many cases."""
    with begin_immediate(engine) as connection:
        text = f"exported {cases} verified cases of pipeline {pipeline} as a training data set"
        add_notice(connection, NoticeKind.ACT, who=who, detail=text)
