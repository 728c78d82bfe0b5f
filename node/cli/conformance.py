"""``ainode conformance``."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, load


@click.command()
@config_option
def conformance(config_path: Path) -> None:
    """Print the DICOM Conformance Statement as Markdown.

    It describes the node as configured.
    """
    from node.conformance import statement

    echo(statement(load(config_path)), nl=False)
