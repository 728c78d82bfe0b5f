"""``ainode similar``: embeddings of findings, and the rebuild of their indexes."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, print_json


@click.command()
@config_option
@json_option
@click.option(
    "--rebuild",
    is_flag=True,
    help="Delete embeddings without a result, or of pipelines without similar_findings; build all indexes again.",
)
def similar(*, config_path: Path, as_json: bool, rebuild: bool) -> None:
    """Count embeddings of findings by pipeline.

    The page of a study shows similar earlier findings by them. Their index is in the memory of the dashboard alone;
    after --rebuild it is built again from the ledger when a page needs it.
    """
    from node.ledger import embeddings
    from node.ledger.engine import begin_immediate
    from node.service import open_storage
    from node.translation import gettext

    config = load(config_path)
    engine, _ = open_storage(config)
    deleted = 0
    if rebuild:
        pipelines = {name for name, table in config.pipelines.items() if table.similar_findings}
        with begin_immediate(engine) as connection:
            deleted, _ = embeddings.rebuild(connection, pipelines)
    with engine.connect() as connection:
        counts = [
            (space.key, embeddings.embedding_count(connection, space.key)) for space in embeddings.spaces(connection)
        ]
    if as_json:
        rows = [{"pipeline": key.pipeline, "space": key.name, "embeddings": count} for key, count in counts]
        print_json({"spaces": rows, "deleted": deleted})
        return
    if rebuild:
        echo(gettext("Embeddings deleted: {count}", count=deleted))
    for key, count in counts:
        echo(gettext("Embeddings of {pipeline} ({space}): {count}", pipeline=key.pipeline, space=key.name, count=count))
    if not counts:
        echo(gettext("No finding has an embedding."))
