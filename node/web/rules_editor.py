"""The editor of rules and destinations: try a change on past series, apply it, go back to a version."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from node.config import Config
from node.config.rules_text import changed_config, rules_text
from node.errors import ConfigError
from node.ledger.clock import clock_of
from node.ledger.counts import delivery_counts
from node.ledger.states import DeliveryState
from node.operate.rules_file import RulesFile
from node.routing.replay import Replay, replay
from node.translation import gettext
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import UserRequest, require
from node.web.rules_page import SPANS

_SHOWN = 200
"""Series in the list."""
_OPEN = (DeliveryState.SCHEDULED, DeliveryState.IN_PROGRESS)


def edit(context: AppContext, user_request: UserRequest) -> Response:
    """Show the editor; ``version=N`` has it begin with that version, ``done=N`` says what was applied."""
    file = _file(context, user_request)
    query = user_request.request.query_params
    text, number = rules_text(file.whole()), query.get("version", "")
    if number:
        text = next((version.text for version in file.versions() if str(version.number) == number), "")
        if not text:
            raise HTTPException(404, gettext("There is no version {number!r}.", number=number))
    return _page(context, user_request, file, text=text, why=f"back to version {number}" if number else "")


def try_out(context: AppContext, user_request: UserRequest) -> Response:
    """Validate a change, and show what it would have done with the series of the last days; nothing is changed."""
    file, form = _file(context, user_request), user_request.form
    text, since = _text(form), form.get("since", "")
    if since not in SPANS:
        raise HTTPException(
            400, gettext("{since!r} is no span; choose one of {spans}.", since=since, spans=", ".join(SPANS))
        )
    why = form.get("why", "").strip()
    try:
        _, config = changed_config(file.whole(), text, str(file.path))
        _check_removed(context, config)
    except ConfigError as error:
        return _page(context, user_request, file, text=text, why=why, since=since, error=str(error))
    if not context.looking_back.acquire(blocking=False):
        raise HTTPException(409, gettext("Rules are being tried on past series already; try again in a moment."))
    try:
        from_time = clock_of(context.engine) - SPANS[since] * 86400.0
        result = replay(context.engine, context.spool, config, from_time, lambda *_: None)
    finally:
        context.looking_back.release()
    return _page(context, user_request, file, text=text, why=why, since=since, found=result)


def apply(context: AppContext, user_request: UserRequest) -> Response:
    """Write a change that was tried to the file, and have the node read it."""
    file, form = _file(context, user_request), user_request.form
    why = form.get("why", "").strip()
    if not why:
        raise HTTPException(400, gettext("A change is only applied with a reason."))
    text, before = _text(form), form.get("before", "").replace("\r\n", "\n")
    _check_removed(context, changed_config(file.whole(), text, str(file.path))[1])
    version = file.apply(text, instead_of=before, who=user_request.user.name, why=why)
    note(context, user_request, f"changed rules and destinations to version {version.number}: {why}")
    return RedirectResponse(f"/rules/edit?done={version.number}", 303)


def _file(context: AppContext, user_request: UserRequest) -> RulesFile:
    require(user_request.user, "operate")
    return context.rules_file


def _text(form: dict[str, str]) -> str:
    """Browsers end lines with CR LF."""
    return form.get("text", "").replace("\r\n", "\n").rstrip() + "\n"


def _check_removed(context: AppContext, config: Config) -> None:
    """Raise ``ConfigError`` when a destination would be removed for which something waits."""
    with context.engine.connect() as connection:
        waiting = {count.destination: count.deliveries for count in delivery_counts(connection) if count.state in _OPEN}
    for name in sorted(waiting.keys() & context.config.destinations.keys() - config.destinations.keys()):
        raise ConfigError(
            f"destination {name!r} has {waiting[name]} pending deliveries; remove it after they have arrived or were "
            "cancelled"
        )


def _page(
    context: AppContext,
    user_request: UserRequest,
    file: RulesFile,
    *,
    text: str,
    why: str,
    since: str = "7d",
    error: str = "",
    found: Replay | None = None,
) -> Response:
    before = rules_text(file.whole())
    changes = found.changes[:_SHOWN] if found is not None else ()
    with context.engine.connect() as connection:
        labels = context.labels.of(connection, {change.study_instance_uid for change in changes})
    return context.page(
        "rules_editor.html",
        user_request,
        path=file.path,
        writable=file.is_writable,
        spans=SPANS,
        versions=file.versions(),
        before=before,
        text=text,
        why=why,
        since=since,
        error=error,
        found=found,
        changes=changes,
        labels=labels,
        diff=list(_diff(before, text)),
        done=user_request.request.query_params.get("done", ""),
    )


def _diff(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Lines that differ, with their neighbours; each with the kind that its colour shows."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    for line in list(unified_diff(before.splitlines(), after.splitlines(), lineterm=""))[2:]:
        yield kinds.get(line[:1], "same"), line
