"""The page of lists of studies that are fetched from an archive as time allows: how far they are, and a form."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from node.deliver.fetch import archive_destination
from node.deliver.fetch_lists import local_now, why_waiting
from node.deliver.study_list import listed_studies
from node.ledger.engine import begin_immediate, snapshot
from node.ledger.fetch_lists import (
    NewFetchList,
    add_fetch_list,
    cancel_fetch_list,
    fetch_again,
    fetch_progress,
    missing_items,
)
from node.translation import gettext
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import UserRequest, require

_SHOWN = 200
"""Items of a list on its page; the command line shows all."""


def fetches(context: AppContext, user_request: UserRequest) -> Response:
    """Show all lists; ``list=N``: what one of them lacks."""
    require(user_request.user, "operate")
    with snapshot(context.engine) as connection:
        if named := user_request.request.query_params.get("list", ""):
            items = missing_items(connection, _number(named))
            shown, more = items[:_SHOWN], len(items) - _SHOWN
            return context.page("missing_studies.html", user_request, number=named, items=shown, more=more)
        lists = fetch_progress(connection)
        waits = why_waiting(context.config, connection, context.spool, local_now())
    places = sorted(
        name for name, destination in context.config.destinations.items() if destination.host or destination.url
    )
    return context.page("fetches.html", user_request, lists=lists, waits=gettext(waits) if waits else "", places=places)


def queue(context: AppContext, user_request: UserRequest) -> Response:
    """Queue the studies that the form names."""
    form = user_request.form
    destination, modalities = form.get("destination", ""), form.get("modalities", "").replace(",", " ").upper().split()
    keys = listed_studies(form.get("studies", ""))
    archive_destination(context.config, destination)
    if not keys:
        raise HTTPException(400, gettext("Give an accession number or Study Instance UID on each line."))
    new = NewFetchList(
        destination=destination, modalities=tuple(modalities), requester=user_request.user.name, keys=keys
    )
    with begin_immediate(context.engine) as connection:
        number = add_fetch_list(connection, new)
    note(context, user_request, f"queued list {number} of studies to fetch from {destination}")
    return RedirectResponse("/fetches", 303)


def change(context: AppContext, user_request: UserRequest) -> Response:
    """Cancel a list, or try again what it lacks."""
    number, again = _number(user_request.form.get("list", "")), user_request.form.get("to") == "again"
    with begin_immediate(context.engine) as connection:
        (fetch_again if again else cancel_fetch_list)(connection, number)
    what = "tried again" if again else "cancelled"
    note(context, user_request, f"{what} list {number} of studies to fetch")
    return RedirectResponse("/fetches", 303)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HTTPException(400, gettext("{text!r} is no number of a list.", text=text))
    return int(text)
