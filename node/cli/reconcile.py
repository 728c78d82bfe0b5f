"""The verb reconcile: whether a destination holds what the ledger says, and the node what the destination holds."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from pathlib import Path

import click

from node.cli.options import config_option, json_option, load, print_json
from node.errors import DeliveryError


@click.command()
@config_option
@json_option
@click.option("--days", default=7, show_default=True, help="How far to look back.")
@click.option("--send-again", is_flag=True, help="Owe the destination once more what it lost.")
@click.argument("destination")
def reconcile(*, config_path: Path, as_json: bool, days: int, send_again: bool, destination: str) -> None:
    """Ask a destination what it holds: series that the node never got, results that it lost.

    Ends with status 6 when there is anything of either, unless all of it is sent again.
    """
    from node.deliver.reconcile import format_reconciliation
    from node.deliver.reconcile import reconcile as ask
    from node.jobs.engine import Jobs
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    found = ask(config, engine, destination, days=days, at=datetime.now().astimezone())
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(format_reconciliation(found))
    if found.lost and send_again:
        jobs = Jobs(engine)
        for job_id, lost in groupby(sorted(found.lost, key=lambda one: one.job_id), lambda one: one.job_id):
            jobs.send_again(job_id, destination, [one.sop_instance_uid for one in lost])
        click.echo(f"{len(found.lost)} objects are owed to {destination} again", err=as_json)
    if found.never_received or (found.lost and not send_again):
        raise DeliveryError(
            f"{destination}: {len(found.never_received)} series never received, {len(found.lost)} objects lost; "
            "let it send the series, and take --send-again for the objects"
        )


VERBS = (reconcile,)
