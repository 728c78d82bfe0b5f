"""Pages for operators alone: warnings and errors, and the audit trail, which records that it was read."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import Response

from node.config.rule_condition import folded
from node.log import warning_lines
from node.operate.audit.auditor import trail_path
from node.operate.audit.reading import read_page
from node.translation import gettext
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import UserRequest, require

_SHOWN = 100
"""Messages on a page."""
_ERRORS = ("ERROR", "CRITICAL")


def audit(context: AppContext, user_request: UserRequest) -> Response:
    """Show who did what with which study, newest first; ``before=N`` for an older page, ``q`` for a search."""
    require(user_request.user, "operate")
    query = user_request.request.query_params
    text, before = query.get("q", "").strip(), query.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 16):
        raise HTTPException(400, gettext("{before!r} is no place in the audit trail.", before=before))
    path = trail_path(context.config)
    page = read_page(path, text, int(before) if before else None, _SHOWN)
    note(context, user_request, "read the audit trail")
    return context.page("audit.html", user_request, page=page, path=path, text=text, before=before)


def log(context: AppContext, user_request: UserRequest) -> Response:
    """Show warnings and errors of all processes, newest first; ``q`` for a search, ``level=errors`` for these alone."""
    require(user_request.user, "operate")
    query = user_request.request.query_params
    text, level = query.get("q", "").strip(), query.get("level", "")
    wanted = folded(text)
    entries = [
        entry
        for entry in reversed(warning_lines(context.spool.logs))
        if (level != "errors" or entry["level"] in _ERRORS)
        and (not wanted or any(wanted in folded(str(value)) for name, value in entry.items() if name != "at"))
    ]
    return context.page("log.html", user_request, entries=entries[:_SHOWN], found=len(entries), text=text, level=level)
