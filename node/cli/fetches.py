"""``ainode fetches``: lists of studies that the node fetches as time allows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.translation import gettext, ngettext

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from node.ledger.fetch_lists import FetchItem, FetchProgress

_LIST = click.IntRange(1, 10**15)


@click.command()
@config_option
@json_option
@click.option("--missing", type=_LIST, metavar="LIST", help="Show what a list lacks, and why.")
@click.option("--again", type=_LIST, metavar="LIST", help="Try again what a list lacks.")
@click.option("--cancel", type=_LIST, metavar="LIST", help="Fetch nothing more of a list.")
@in_language_of_user
def fetches(*, config_path: Path, as_json: bool, missing: int | None, again: int | None, cancel: int | None) -> None:
    """Show how far the lists of `ainode fetch --queue` are."""
    from node.deliver.fetch_lists import local_now, why_waiting
    from node.ledger.engine import begin_immediate, snapshot
    from node.ledger.fetch_lists import fetch_progress, missing_items
    from node.service import open_storage

    if sum(option is not None for option in (missing, again, cancel)) > 1:
        raise click.UsageError("give one of --missing, --again and --cancel")
    config = load(config_path)
    engine, spool = open_storage(config)
    for number, is_again in ((again, True), (cancel, False)):
        if number is not None:
            with begin_immediate(engine) as connection:
                _change(connection, number, is_again=is_again, as_json=as_json)
            return
    with snapshot(engine) as connection:
        if missing is not None:
            _show_missing(missing_items(connection, missing), as_json=as_json)
            return
        lists, waits = fetch_progress(connection), why_waiting(config, connection, spool, local_now())
    if as_json:
        print_json({"waits": waits, "lists": [asdict(progress) for progress in lists]})
        return
    for progress in lists:
        _echo_list(progress)
    if not lists:
        echo(gettext("no lists of studies to fetch"))
    elif waits and any(progress.waiting for progress in lists):
        echo(gettext("nothing is fetched now: {reason}", reason=gettext(waits)))


def _change(connection: Connection, number: int, *, is_again: bool, as_json: bool) -> None:
    from node.ledger.fetch_lists import cancel_fetch_list, fetch_again

    if is_again:
        items = fetch_again(connection, number)
        message = ngettext("{number} item waits again", "{number} items wait again", items)
    else:
        items = cancel_fetch_list(connection, number)
        message = ngettext("{number} item is not fetched", "{number} items are not fetched", items)
    echo(message, err=as_json)
    if as_json:
        print_json({"items": items})


def _show_missing(items: list[FetchItem], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(item) for item in items])
        return
    for item in items:
        what = gettext(
            "{keyword} {value}: {state}, {here} of {there} images",
            keyword=item.keyword,
            value=item.value,
            state=gettext(item.state),
            here=item.here,
            there=item.there,
        )
        echo("; ".join(filter(None, [what, item.error])))
    if not items:
        echo(gettext("nothing is missing"))


def _echo_list(progress: FetchProgress) -> None:
    from node.operate.explain import clock

    head = gettext(
        "list {number} from {destination}, requested by {requester}",
        number=progress.id,
        destination=progress.destination,
        requester=progress.requester,
    )
    echo(f"{clock(progress.requested_at)}  {head}")
    states = [f"{number} {gettext(state)}" for state, number in progress.items.items()]
    images = ngettext("{number} image", "{number} images", progress.images)
    echo("  " + "; ".join([", ".join(states), images]))
    if progress.error:
        echo("  " + gettext("tried again: {error}", error=progress.error))


VERBS = (fetches,)
