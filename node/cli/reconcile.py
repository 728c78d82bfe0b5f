"""``ainode reconcile``: compare the ledger with the content of a destination."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.errors import DeliveryError
from node.translation import ngettext


@click.command()
@config_option
@json_option
@click.option("--days", default=7, show_default=True, help="Number of days to look back.")
@click.option("--send-again", is_flag=True, help="Re-send objects that the destination no longer has.")
@click.argument("destination")
@in_language_of_user
def reconcile(*, config_path: Path, as_json: bool, days: int, send_again: bool, destination: str) -> None:
    """Find series and results that only one side has.

    Queries a destination for series that the node never received and results that it no longer has.

    Exits with status 6 if there are any, unless all of them are re-sent.
    """
    from node.deliver.reconcile import describe
    from node.deliver.reconcile import reconcile as ask
    from node.jobs.engine import Jobs
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    reconciliation = ask(config, engine, destination, days=days, at=datetime.now().astimezone())
    if as_json:
        print_json(asdict(reconciliation))
    else:
        echo(describe(reconciliation))
    if reconciliation.lost and send_again:
        jobs = Jobs(engine)
        for job_id, lost in groupby(
            sorted(reconciliation.lost, key=lambda item: item.job_id), lambda item: item.job_id
        ):
            jobs.send_again(job_id, destination, [item.sop_instance_uid for item in lost])
        number = len(reconciliation.lost)
        echo(
            ngettext(
                "{number} object will be sent to {destination} again",
                "{number} objects will be sent to {destination} again",
                number,
                destination=destination,
            ),
            err=as_json,
        )
    if reconciliation.never_received or (reconciliation.lost and not send_again):
        raise DeliveryError(
            f"{destination}: {len(reconciliation.never_received)} series never received, "
            f"{len(reconciliation.lost)} objects lost; "
            f"use `ainode fetch {destination}` for the series and --send-again for the objects"
        )


VERBS = (reconcile,)
