"""``ainode demo``: the node between a scanner and a PACS, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--studies", type=click.Path(path_type=Path, exists=True), help="Send these DICOM files instead of phantoms."
)
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Working folder."
)
@click.option("--keep", is_flag=True, help="Keep node and PACS running until Ctrl-C.")
@click.option(
    "--ohif",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with the built pages of OHIF: show the results there until Ctrl-C.",
)
@click.option(
    "--machines",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    help="Machines of a fleet, with a disk each and two copies of every image; more than one needs root.",
)
def demo(*, studies: Path | None, folder: Path, keep: bool, ohif: Path | None, machines: int) -> None:
    """Run a demo with synthetic studies.

    Starts a PACS, the node and a scanner that sends the studies; shows the results as PNG. With several machines, which
    are network namespaces of this one, also a PostgreSQL.
    """
    if machines > 1:
        if ohif is not None:
            raise click.UsageError("--ohif shows the demo on one machine; leave --machines out")
        from node.demo.fleet_demo import run_fleet_demo

        sys.exit(run_fleet_demo(studies, folder, machines, keep=keep))
    from node.demo.run import run_demo

    sys.exit(run_demo(studies, folder, keep=keep, ohif=ohif))


VERBS = (demo,)
