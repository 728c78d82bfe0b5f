"""``ainode backup`` and ``ainode restore``."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, load
from node.translation import gettext

_folder = click.argument("folder", type=click.Path(path_type=Path))


@click.command()
@config_option
@click.option("--files", is_flag=True, help="Include received images and results (links where possible).")
@click.option("--keys", is_flag=True, help="Include private keys, tokens and passwords; protect the backup.")
@_folder
@in_language_of_user
def backup(*, config_path: Path, files: bool, keys: bool, folder: Path) -> None:
    """Write ledger, configuration, users and audit trail.

    FOLDER must not exist. The node may run meanwhile: the ledger is that of one moment.
    """
    from node.operate.backup import back_up

    manifest = back_up(load(config_path), config_path, folder, files=files, keys=keys)
    of = {"folder": folder, "rows": manifest.rows}
    if manifest.files is None:
        echo(gettext("wrote {folder}: {rows} rows of the ledger, no images or results", **of))
    else:
        echo(
            gettext("wrote {folder}: {rows} rows of the ledger, {files} images and results", files=manifest.files, **of)
        )
    for path in (path for path, name in manifest.keys.items() if not name):
        echo(gettext("not included: {path} (--keys includes it)", path=path))


@click.command()
@config_option
@_folder
@in_language_of_user
def restore(*, config_path: Path, folder: Path) -> None:
    """Make a node of the backup in FOLDER.

    For a machine that has no node. Takes the configuration of the backup unless --config exists already: then its
    folders and ledger are used. The ledger must be empty. Start the node when `ainode verify` and `ainode account` find
    nothing.
    """
    from node.operate.backup import restore as make

    config, manifest = make(folder, config_path)
    folder = config.storage.folder
    echo(
        gettext(
            "restored {rows} rows of the ledger, written by version {version}, to {folder}",
            rows=manifest.rows,
            version=manifest.version,
            folder=folder,
        )
    )
    if manifest.files is None:
        echo(
            gettext(
                "the backup has no images and results: copy incoming, conflicts and results to {folder}", folder=folder
            )
        )
    for path in (path for path, name in manifest.keys.items() if not name):
        echo(gettext("bring back yourself: {path}", path=path))
    echo(gettext("then run `ainode verify`, `ainode account` and `ainode check`"))


VERBS = (backup, restore)
