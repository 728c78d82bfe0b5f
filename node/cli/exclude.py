"""``ainode exclude``: take images of another patient out of a held series, or put them back."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, load, local_user
from node.translation import gettext, ngettext


@click.command()
@config_option
@click.option("--reason", help="Why; it is kept in the audit trail. Needed unless --undo is given.")
@click.option("--undo", is_flag=True, help="Put excluded images back into their series.")
@click.argument("images", metavar="SOP_UID...", nargs=-1, required=True)
@in_language_of_user
def exclude(config_path: Path, *, reason: str | None, undo: bool, images: tuple[str, ...]) -> None:
    """Take images out of a held series.

    The router then decides again on the series without them. Nothing is deleted: their files are kept, and --undo puts
    them back. All of them are excluded, or none.
    """
    from node.ledger.engine import begin_immediate
    from node.ledger.excluded_images import exclude_image, include_image
    from node.service import open_storage

    if not undo and not (reason or "").strip():
        raise click.UsageError("--reason is needed")
    engine, _ = open_storage(load(config_path))
    with begin_immediate(engine) as connection:
        for uid in images:
            if undo:
                study = include_image(connection, uid, who=local_user())
            else:
                study = exclude_image(connection, uid, who=local_user(), why=str(reason))
    done = (
        ngettext("{number} image included", "{number} images included", len(images))
        if undo
        else ngettext("{number} image excluded", "{number} images excluded", len(images))
    )
    echo(gettext("{done}; `ainode explain {study}` shows the new decision", done=done, study=study))


VERBS = (exclude,)
