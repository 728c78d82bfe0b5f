"""The end of a stop: an operator lets the results of a pipeline be sent again."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.shadow import resume_sending
from node.ledger.states import NoticeKind
from node.operate.stated_reason import stated_reason
from node.reasons import reason_text
from node.translation import in_language


def resume_pipeline(engine: sa.Engine, pipeline: str, *, reason: str, who: str, address: str = "") -> None:
    """Send the results of a pipeline again, and record who wanted that and why.

    Raises ``NodeError`` without a reason, or when its stop rule has not tripped.
    """
    given = stated_reason(reason)
    with begin_immediate(engine) as connection:
        stop = resume_sending(connection, pipeline)
        with in_language("en"):  # of the audit trail
            why = reason_text(stop.why)
        text = f"resumed pipeline {pipeline}: {given} (stopped: {why})"
        add_notice(connection, NoticeKind.ACT, who=who, address=address, detail=text)
