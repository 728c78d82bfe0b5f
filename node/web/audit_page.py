"""The page of the audit trail, for operators; reading it is an event of the trail."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import Response

from node.operate.audit.auditor import trail_path
from node.operate.audit.reading import read_page
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import UserRequest

_SHOWN = 100
"""Messages on a page."""


def audit(context: AppContext, user_request: UserRequest) -> Response:
    """Show who did what with which study, newest first; ``before=N`` for an older page, ``q`` for a search."""
    if not user_request.operates:
        raise HTTPException(403, "Your role is 'view'; the audit trail needs the role 'operate'.")
    query = user_request.request.query_params
    text, before = query.get("q", "").strip(), query.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 16):
        raise HTTPException(400, f"{before!r} is no place in the audit trail.")
    path = trail_path(context.config)
    page = read_page(path, text, int(before) if before else None, _SHOWN)
    note(context, user_request, "read the audit trail")
    return context.page("audit.html", user_request, page=page, path=path, text=text, before=before)
