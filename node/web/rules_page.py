"""The page of the rules: what they are, and series that were ignored and that they would route now."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from node.ledger.clock import clock_of
from node.ledger.published_rules import file_states
from node.operate.published_text import state_lines
from node.routing.replay import Change, replay
from node.routing.reroute import newly_routed
from node.routing.reroute import reroute as reopen
from node.translation import gettext
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import UserRequest

SPANS = {"1d": 1, "7d": 7, "30d": 30}
"""Days by the value of the form."""
_SHOWN = 200
"""Series in the list."""


def rules(context: AppContext, user_request: UserRequest) -> Response:
    """The rules; for an operator who names a span also what they would route of the series ignored in it."""
    query = user_request.request.query_params
    looked = user_request.operates and "since" in query
    changes = _ignored(context, query) if looked else []
    with context.engine.connect() as connection:
        states = file_states(connection)
        labels = context.labels.of(connection, {change.study_instance_uid for change in changes[:_SHOWN]})
    return context.page(
        "rules.html",
        user_request,
        rules=context.config.rules,
        files=[state_lines(state) for state in states],
        spans=SPANS,
        looked=looked,
        since=query.get("since", ""),
        rule=query.get("rule", ""),
        changes=changes[:_SHOWN],
        total=len(changes),
        labels=labels,
        done=query.get("done", ""),
    )


def reroute(context: AppContext, user_request: UserRequest) -> Response:
    """Have the router decide again on these series."""
    form = user_request.form
    count = reopen(context.engine, _ignored(context, form), clock_of(context.engine))
    by = f" by rule {form['rule']!r}" if form.get("rule") else ""
    note(context, user_request, f"rerouted {count} series ignored in the last {form['since']}{by}")
    return RedirectResponse(f"/rules?done={count}", 303)


def _ignored(context: AppContext, asked: Mapping[str, str]) -> list[Change]:
    since, rule = asked.get("since", ""), asked.get("rule", "") or None
    if since not in SPANS:
        raise HTTPException(
            400, gettext("{since!r} is no span; choose one of {spans}.", since=since, spans=", ".join(SPANS))
        )
    if rule is not None and rule not in {table.name for table in context.config.rules}:
        raise HTTPException(404, gettext("There is no rule {rule!r}.", rule=rule))
    if not context.looking_back.acquire(blocking=False):
        raise HTTPException(409, gettext("The rules are being tried on past series already; try again in a moment."))
    try:
        from_time = clock_of(context.engine) - SPANS[since] * 86400.0
        result = replay(context.engine, context.spool, context.config, from_time, lambda *_: None)
    finally:
        context.looking_back.release()
    return newly_routed(result.changes, rule)
