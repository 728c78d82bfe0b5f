"""``ainode packs``: the packs of complete series in the object store."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.errors import ConfigError, InputError, OperatorError
from node.translation import gettext


@click.command()
@config_option
@json_option
@click.option("--recover", is_flag=True, help="Record the images of packs that the ledger does not know.")
@in_language_of_user
def packs(*, config_path: Path, as_json: bool, recover: bool) -> None:
    """Show the packs of complete series in the object store.

    Names packs that the ledger does not know: after it was lost, or an older copy of it was restored, they may hold
    the only copy of images, so nothing deletes them. With --recover their images are put into the storage folder and
    recorded; the rules are applied to them as to images that were just received.
    """
    from node.ledger.packs import count_packs
    from node.object_store.marks import discard_other_marks
    from node.object_store.recovery import recover_pack, unknown_packs
    from node.object_store.store import open_objects
    from node.service import open_storage

    config = load(config_path)
    if not config.storage.object_store.url:
        raise ConfigError("[storage.object_store] url is empty; there are no packs")
    engine, spool = open_storage(config)
    objects = open_objects(config.storage.object_store)
    unknown = unknown_packs(engine, objects)
    left = list(unknown)
    for name in unknown if recover else ():
        try:
            done = recover_pack(engine, spool, objects, name)
        except InputError as error:
            echo(str(error))
            continue
        left.remove(name)
        echo(
            gettext(
                "{pack}: {recorded} images recorded, {known} known before, {left} left out",
                pack=name,
                recorded=done.recorded,
                known=done.known,
                left=done.left,
            )
        )
    if recover and not left:
        discard_other_marks(engine, objects)
    with engine.connect() as connection:
        counts = count_packs(connection)
    if as_json:
        print_json({**counts._asdict(), "unknown": left})
    else:
        number, files, gib = counts.packs, counts.files, counts.size / 2**30
        echo(gettext("{packs} packs with {files} images, {gib:.2f} GiB", packs=number, files=files, gib=gib))
        if counts.failing:
            echo(gettext("{packs} packs cannot be written: {error}", packs=counts.failing, error=counts.error))
        for name in left:
            echo(gettext("the ledger does not know {pack}", pack=name))
    if left:
        raise OperatorError(f"{len(left)} packs in the store are not known; `ainode packs --recover` records them")


VERBS = (packs,)
