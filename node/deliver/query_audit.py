"""Audit of the queries that this node sends: C-FIND, C-GET, C-MOVE, QIDO-RS (PS3.15 A.5.3.10)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

import httpx
from pynetdicom import evt
from sqlalchemy import Engine

from node.config import Destination, Worklist
from node.ledger import NoticeKind
from node.ledger.audit_events import Question, give_notice

OnQuery = Callable[[Question], None]


def query_recorder(engine: Engine, destination: Destination) -> OnQuery:
    """Return a function that records each query to a destination in the audit trail."""
    service = destination.url or destination.fhir
    address = destination.host or str(httpx.URL(service).host)

    def record(question: Question) -> None:
        who = destination.title if destination.host else service
        give_notice(engine, NoticeKind.QUERY, who=who, address=address, detail=question.to_json())

    return record


def worklist_query_recorder(engine: Engine, worklist: Worklist) -> OnQuery:
    """Return a function that records each query of the worklist in the audit trail."""

    def record(question: Question) -> None:
        give_notice(engine, NoticeKind.QUERY, who=worklist.title, address=worklist.host, detail=question.to_json())

    return record


def audit_query(event: evt.Event, on_query: OnQuery) -> None:
    """Report a DIMSE message that is being sent, if it is a query."""
    message = event.message
    if type(message).__name__ not in ("C_FIND_RQ", "C_GET_RQ", "C_MOVE_RQ"):
        return
    (syntax,) = (c.transfer_syntax[0] for c in event.assoc.accepted_contexts if c.context_id == message.context_id)
    identifier = b64encode(message.data_set.getvalue()).decode("ascii")
    about = str(message.command_set.AffectedSOPClassUID)
    on_query(Question(about=about, identifier=identifier, transfer_syntax_uid=str(syntax)))


def of_request(request: httpx.Request) -> Question:
    """Describe a QIDO-RS request for the audit trail."""
    whole = b64encode(str(request.url).encode()).decode("ascii")
    return Question(about=str(request.url.copy_with(query=None)), identifier=whole)
