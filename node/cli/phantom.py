"""The verb phantom: images on which left and right, front and back, head and feet cannot be mistaken."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from node.cli.options import config_option, json_option, load, print_json

PLANES = ("axial", "coronal", "sagittal", "oblique")


@click.command()
@config_option
@json_option
@click.option(
    "--plane",
    "planes",
    multiple=True,
    type=click.Choice(PLANES),
    help="Of the images; several may be given. Default: all four.",
)
@click.option("--send", is_flag=True, help="Send the images to the running node of --config as well.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def phantom(*, config_path: Path, as_json: bool, planes: tuple[str, ...], send: bool, folder: Path) -> None:
    """Write the orientation phantom to FOLDER: images, and SEG, SR and key images made of them.

    Nobody can mistake it for a patient. Load it into the viewers of the site: docs/operate.md says what to look for.
    """
    from node.demo.orientation_demo import make, send_to_node

    made = [make(folder / plane, plane) for plane in planes or PLANES]
    if send:
        send_to_node(load(config_path), [path for one in made for path in one.images])
    if as_json:
        print_json([asdict(one) for one in made])
        return
    for one in made:
        click.echo(f"{one.plane}: {len(one.images)} images, {len(one.results)} results below {folder / one.plane}")
    click.echo("One ball is on the left, two right, three front, four back, five head, six feet; letters stand beside.")


VERBS = (phantom,)
