"""``ainode retention``: what will be purged and when."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json


@click.command()
@config_option
@json_option
@click.option("--studies", default=20, show_default=True, help="Number of entries to list.")
@in_language_of_user
def retention(*, config_path: Path, as_json: bool, studies: int) -> None:
    """Show what will be purged when and why, and what is held back. Nothing is purged by this command."""
    from node.ledger.clock import ledger_clock
    from node.ledger.engine import snapshot
    from node.operate.purge_plan import current_plan, describe
    from node.operate.retention_rules import RetentionRules
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    rules = RetentionRules(config)
    with snapshot(engine) as connection:
        plan = current_plan(connection, rules, ledger_clock(connection))
    if as_json:
        print_json(asdict(plan))
    else:
        echo(describe(plan, rules, studies))


VERBS = (retention,)
