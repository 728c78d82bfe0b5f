"""``ainode retention``: what will be purged and when."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, print_json


@click.command()
@config_option
@json_option
@click.option("--studies", default=20, show_default=True, help="Number of studies to list.")
def retention(*, config_path: Path, as_json: bool, studies: int) -> None:
    """Show what will be purged when, and what is held back."""
    from node.ledger.clock import ledger_clock
    from node.ledger.engine import snapshot
    from node.ledger.planned_purges import stored_studies
    from node.operate.purge_plan import describe, purge_plan
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    with snapshot(engine) as connection:
        plan = purge_plan(stored_studies(connection), config.retention.days, ledger_clock(connection))
    if as_json:
        print_json(asdict(plan))
    else:
        echo(describe(plan, config.retention.days, studies))


VERBS = (retention,)
