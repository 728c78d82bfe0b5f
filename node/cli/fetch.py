"""``ainode fetch``: have an archive send studies to this node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.errors import ConfigError, DeliveryError, NotFoundError
from node.translation import gettext, ngettext


@click.command()
@config_option
@json_option
@click.option("--accession", multiple=True, metavar="NUMBER", help="Accession number of studies. Repeatable.")
@click.option("--study", multiple=True, metavar="UID", help="Study Instance UID. Repeatable.")
@click.option("--patient", multiple=True, metavar="ID", help="Patient ID of studies. Repeatable.")
@click.option("--list", "listed", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Text file with an accession number or Study Instance UID on each line.")  # fmt: skip
@click.option("--days", type=click.IntRange(min=0), help="Studies of the last DAYS days, today included.")
@click.option("--modality", multiple=True, help="Fetch these modalities. Repeatable.  [those that a rule matches]")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched.")
@click.argument("destination")
@in_language_of_user
def fetch(
    *, config_path: Path, as_json: bool, listed: Path | None, days: int | None, modality: tuple[str, ...],
    dry_run: bool, destination: str, **named: tuple[str, ...],
) -> None:  # fmt: skip
    """Fetch studies from an archive, to be analysed like any others.

    The archive is a DESTINATION that answers C-FIND and C-MOVE and knows this node as a store destination, one with
    retrieve = get that answers C-GET, or one with a url that answers QIDO-RS and WADO-RS. Series that are completely
    here are not fetched again.

    Exits with status 6 if anything is missing afterwards.
    """
    from node.deliver.fetch import KEYS, FetchedSeries
    from node.dicomweb.archive import open_archive
    from node.service import open_storage

    config = load(config_path)
    wanted = [{KEYS[kind]: value} for kind, values in named.items() for value in values]
    wanted += [{KEYS["study" if _is_uid(line) else "accession"]: line} for line in _lines(listed)]
    if days is not None:
        wanted.append({KEYS["dates"]: f"{datetime.now().astimezone() - timedelta(days=days):%Y%m%d}-"})
    if not wanted:
        raise ConfigError("name studies by --accession, --study, --patient, --list or --days")
    engine, spool = open_storage(config)
    results, faults = [], []
    with open_archive(config, engine, spool, destination) as archive:
        for keys in wanted:
            try:
                found = archive.incomplete(keys, modality)
            except NotFoundError as error:
                faults.append(str(error))
                echo(str(error), err=as_json)
                continue
            for series in found:
                fetched = FetchedSeries(series=series) if dry_run else archive.fetch(series)
                results.append(fetched.series)
                faults += filter(None, [fetched.error])
                line = gettext(
                    "{modality} {series}: {here} of {there} images",
                    modality=series.modality,
                    series=series.series_instance_uid,
                    here=fetched.series.here,
                    there=series.there,
                )
                echo("; ".join(filter(None, [line, fetched.error])), err=as_json)
    if as_json:
        print_json([asdict(series) for series in results])
    else:
        number = len(results)
        echo(
            ngettext("{number} series to fetch", "{number} series to fetch", number)
            if dry_run
            else ngettext("{number} series fetched", "{number} series fetched", number)
        )
    if faults:
        raise DeliveryError(f"{len(faults)} studies or series are missing; first: {faults[0]}")


def _lines(file: Path | None) -> Iterator[str]:
    if file is not None:
        yield from filter(None, map(str.strip, file.read_text(encoding="utf-8-sig").splitlines()))


def _is_uid(text: str) -> bool:
    return text.count(".") > 1 and text.replace(".", "").isdecimal()


VERBS = (fetch,)
