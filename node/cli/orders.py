"""``ainode orders``: orders and messages of the information system."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.translation import gettext

if TYPE_CHECKING:
    from node.ledger.order_messages import Receipt
    from node.ledger.orders import Order


@click.command()
@config_option
@json_option
@click.option("--messages", "of_messages", is_flag=True, help="List the messages and their answers instead.")
@click.option("--rejected", is_flag=True, help="List the messages that were not accepted, and why.")
@click.option("--content", is_flag=True, help="With --rejected, print what is kept of each; it names patients.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most lines.")
@in_language_of_user
def orders(*, config_path: Path, as_json: bool, of_messages: bool, rejected: bool, content: bool, limit: int) -> None:
    """List the latest orders of the information system.

    Also lists studies whose patient was merged or updated there after the images were received.
    """
    from node.ledger.engine import snapshot
    from node.ledger.order_messages import latest_messages
    from node.ledger.orders import latest_orders
    from node.ledger.patient_changes import changed_studies
    from node.service import open_storage

    if content and not rejected:
        raise click.UsageError("--content needs --rejected")
    engine, _ = open_storage(load(config_path))
    with snapshot(engine) as connection:
        if of_messages or rejected:
            messages = latest_messages(connection, limit, rejected=rejected)
            if as_json:
                print_json([_message(message, content=content) for message in messages])
            else:
                _echo_messages(messages, content=content)
            return
        latest, changed = latest_orders(connection, limit), changed_studies(connection)
    if as_json:
        print_json({"orders": [asdict(order) for order in latest], "changed": [asdict(study) for study in changed]})
        return
    for order in latest:
        _echo_order(order)
    for study in changed:
        echo(
            gettext(
                "study {study}: its patient had a {kind} that its images do not have",
                study=study.study_instance_uid,
                kind=study.kind,
            )
        )
    if not latest:
        echo(gettext("no orders"))


def _message(message: Receipt, *, content: bool) -> dict[str, object]:
    values = asdict(message)
    raw = values.pop("content")
    return values | ({"content": (raw or b"").decode("latin-1")} if content else {})


def _echo_messages(messages: list[Receipt], *, content: bool) -> None:
    from node.operate.explain import clock

    for message in messages:
        kind = message.kind or gettext("unreadable")
        named = f"{kind} {message.control_id}".rstrip()
        sender = gettext(
            "{message} of {sender} at {address}",
            message=named,
            sender=message.sender or gettext("nobody"),
            address=message.peer_address,
        )
        echo(f"{clock(message.received_at)}  {message.answer}  {sender}")
        if message.reason:
            echo(f"  {message.reason}")
        if content:
            for line in (message.content or b"").decode("latin-1").replace("\n", "\r").split("\r"):
                echo(f"    {line}")
    if not messages:
        echo(gettext("no messages"))


def _echo_order(order: Order) -> None:
    from node.operate.explain import clock

    keys, values = order.keys, order.values
    what = " ".join(filter(None, (values.procedure_code, values.procedure and repr(values.procedure))))
    shown = [values.priority or gettext("no priority"), what or gettext("no procedure"), gettext(order.state)]
    shown += [gettext("from the worklist")] if order.of_worklist else []
    echo(f"{clock(order.updated_at)}  {', '.join(shown)}")
    named = {
        gettext("accession {value}"): keys.accession,
        gettext("placer {value}"): keys.placer,
        gettext("filler {value}"): keys.filler,
        gettext("patient {value}"): keys.patient_id,
    }
    echo("  " + ", ".join(name.format(value=value) for name, value in named.items() if value))
    if values.reason:
        echo(gettext("  reason: {reason}", reason=values.reason))


VERBS = (orders,)
