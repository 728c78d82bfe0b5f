"""``ainode explain``: the history of one study."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, print_json


@click.command()
@config_option
@json_option
@click.argument("study_uid")
def explain(*, config_path: Path, as_json: bool, study_uid: str) -> None:
    """Explain what was done with a study, and why."""
    from node.operate.explain import describe
    from node.operate.explain import explain as read
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    history = read(engine, study_uid)
    if as_json:
        print_json(history)
    else:
        echo(describe(history))


VERBS = (explain,)
