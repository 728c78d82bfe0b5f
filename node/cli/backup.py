"""``ainode backup`` and ``ainode restore``."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, load

_folder = click.argument("folder", type=click.Path(path_type=Path))


@click.command()
@config_option
@click.option("--files", is_flag=True, help="Include received images and results (links where possible).")
@click.option("--keys", is_flag=True, help="Include private keys, tokens and passwords; protect the backup.")
@_folder
def backup(*, config_path: Path, files: bool, keys: bool, folder: Path) -> None:
    """Write ledger, configuration, users and audit trail.

    FOLDER must not exist. The node may run meanwhile: the ledger is that of one moment.
    """
    from node.operate.backup import back_up

    manifest = back_up(load(config_path), config_path, folder, files=files, keys=keys)
    images = "no images or results" if manifest.files is None else f"{manifest.files} images and results"
    echo(f"wrote {folder}: {manifest.rows} rows of the ledger, {images}")
    for path in (path for path, name in manifest.keys.items() if not name):
        echo(f"not included: {path} (--keys includes it)")


@click.command()
@config_option
@_folder
def restore(*, config_path: Path, folder: Path) -> None:
    """Make a node of the backup in FOLDER.

    For a machine that has no node. Takes the configuration of the backup unless --config exists already: then its
    folders and ledger are used. The ledger must be empty. Start the node when `ainode verify` and `ainode account` find
    nothing.
    """
    from node.operate.backup import restore as make

    config, manifest = make(folder, config_path)
    echo(
        f"restored {manifest.rows} rows of the ledger, written by version {manifest.version}, "
        f"to {config.storage.folder}"
    )
    if manifest.files is None:
        echo(f"the backup has no images and results: copy incoming, conflicts and results to {config.storage.folder}")
    for path in (path for path, name in manifest.keys.items() if not name):
        echo(f"bring back yourself: {path}")
    echo("then run `ainode verify`, `ainode account` and `ainode check`")


VERBS = (backup, restore)
