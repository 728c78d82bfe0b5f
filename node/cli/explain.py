"""``ainode explain``: the history of one study."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json


@click.command()
@config_option
@json_option
@click.argument("name", metavar="STUDY")
@in_language_of_user
def explain(*, config_path: Path, as_json: bool, name: str) -> None:
    """Explain what was done with a study, and why.

    STUDY is the UID of a study, series, image, result or workitem, or the id of a job; with [web] show_patient also an
    accession number or a patient ID. JSON is a list when it names several studies.
    """
    from node.operate.explain import explain as read
    from node.operate.explain import name_series
    from node.operate.explain_text import describe
    from node.operate.lookup import find_studies, read_labels
    from node.service import open_storage

    config = load(config_path)
    engine, spool = open_storage(config)
    studies = find_studies(config, engine, spool, name)
    labels = read_labels(config, engine, spool, studies)
    histories = [read(engine, uid) for uid in studies]
    for history in histories:
        name_series(history, labels[history["study_instance_uid"]])
    if as_json:
        print_json(histories[0] if len(histories) == 1 else histories)
    else:
        echo("\n\n".join(map(describe, histories)))


VERBS = (explain,)
