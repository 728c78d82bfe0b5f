"""``ainode phantom``: images that show left and right, front and back, head and feet unmistakably."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, print_json

PLANES = ("axial", "coronal", "sagittal", "oblique")


@click.command()
@config_option
@json_option
@click.option(
    "--plane",
    "planes",
    multiple=True,
    type=click.Choice(PLANES),
    help="Image plane; may be given several times. Default: all four.",
)
@click.option("--send", is_flag=True, help="Also send the images to the running node of --config.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def phantom(*, config_path: Path, as_json: bool, planes: tuple[str, ...], send: bool, folder: Path) -> None:
    """Write an orientation phantom to FOLDER.

    The phantom has images with matching SEG, SR and key images. It is synthetic and labelled as a phantom.
    Load it into your viewers; docs/operate.md says what to look for.
    """
    from node.demo.orientation_demo import make, send_to_node

    phantoms = [make(folder / plane, plane) for plane in planes or PLANES]
    if send:
        send_to_node(load(config_path), [path for item in phantoms for path in item.images])
    if as_json:
        print_json([asdict(item) for item in phantoms])
        return
    for item in phantoms:
        echo(f"{item.plane}: {len(item.images)} images, {len(item.results)} results below {folder / item.plane}")
    echo("Balls: one left, two right, three front, four back, five head, six feet; each side has its letter.")


VERBS = (phantom,)
