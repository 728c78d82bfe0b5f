"""``ainode fetch``: have an archive send studies to this node."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, local_user, print_json
from node.errors import ConfigError, DeliveryError, NotFoundError
from node.translation import gettext, ngettext

if TYPE_CHECKING:
    from node.config import Config


@click.command()
@config_option
@json_option
@click.option("--accession", multiple=True, metavar="NUMBER", help="Accession number of studies. Repeatable.")
@click.option("--study", multiple=True, metavar="UID", help="Study Instance UID. Repeatable.")
@click.option("--patient", multiple=True, metavar="ID", help="Patient ID of studies. Repeatable.")
@click.option("--list", "listed", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Text or CSV file with accession numbers or Study Instance UIDs.")  # fmt: skip
@click.option("--days", type=click.IntRange(min=0), help="Studies of the last DAYS days, today included.")
@click.option("--dates", metavar="FROM-TO", help="Studies of these days, such as 20260101-20260131.")
@click.option("--modality", multiple=True, help="Fetch these modalities. Repeatable.  [those that a rule matches]")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched.")
@click.option("--queue", is_flag=True, help="Let the node fetch it, beside the routine.")
@click.argument("destination")
@in_language_of_user
def fetch(
    *, config_path: Path, as_json: bool, listed: Path | None, days: int | None, dates: str | None,
    modality: tuple[str, ...], dry_run: bool, queue: bool, destination: str, **named: tuple[str, ...],
) -> None:  # fmt: skip
    """Fetch studies from an archive, to be analysed like any others.

    The archive is a DESTINATION that answers C-FIND and C-MOVE and knows this node as a store destination, one with
    retrieve = get that answers C-GET, or one with a url that answers QIDO-RS and WADO-RS. Series that are completely
    here are not fetched again.

    Exits with status 6 if anything is missing afterwards. With --queue it only notes what to fetch: the node fetches it
    study by study, when and as fast as its configuration allows, and its analyses go after all others. `ainode fetches`
    shows how far that is.
    """
    from node.deliver.fetch import KEYS
    from node.deliver.study_list import listed_studies

    config = load(config_path)
    wanted = [{KEYS[kind]: value} for kind, values in named.items() for value in values]
    if listed is not None:
        wanted += [dict([key]) for key in listed_studies(_text_of(listed))]
    if days is not None:
        wanted.append({KEYS["dates"]: f"{datetime.now().astimezone() - timedelta(days=days):%Y%m%d}-"})
    if dates is not None:
        wanted.append({KEYS["dates"]: _range(dates)})
    if queue and dry_run:
        raise click.UsageError("give --queue or --dry-run")
    if not wanted:
        raise ConfigError("name studies by --accession, --study, --patient, --list, --days or --dates")
    if queue:
        _queue(config, destination, modality, wanted, as_json=as_json)
    else:
        _fetch_now(config, destination, modality, wanted, dry_run=dry_run, as_json=as_json)


def _fetch_now(
    config: Config,
    destination: str,
    modalities: tuple[str, ...],
    wanted: list[dict[str, str]],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from node.deliver.fetch import FetchedSeries, wanted_series
    from node.dicomweb.archive import open_archive
    from node.service import open_storage

    engine, spool = open_storage(config)
    results, faults = [], []
    with open_archive(config, engine, spool, destination) as archive:
        for keys in wanted:
            try:
                incomplete = [
                    series
                    for study in archive.studies(keys)
                    for series in wanted_series(archive.series(study), modalities, config.rules)
                    if not series.is_complete
                ]
            except NotFoundError as error:
                faults.append(str(error))
                echo(str(error), err=as_json)
                continue
            for series in incomplete:
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


def _queue(
    config: Config, destination: str, modalities: tuple[str, ...], wanted: list[dict[str, str]], *, as_json: bool
) -> None:
    from node.deliver.fetch import archive_destination
    from node.ledger.engine import begin_immediate
    from node.ledger.fetch_lists import NewFetchList, add_fetch_list
    from node.service import open_storage

    archive_destination(config, destination)
    keys = [item for study in wanted for item in study.items()]
    new = NewFetchList(destination=destination, modalities=modalities, requester=local_user(), keys=keys)
    engine, _ = open_storage(config)
    with begin_immediate(engine) as connection:
        number = add_fetch_list(connection, new)
    echo(gettext("list {number} is queued; `ainode fetches` shows how far it is", number=number), err=as_json)
    if as_json:
        print_json({"list": number})


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: it is no text in UTF-8; save it as CSV in UTF-8") from error


def _range(dates: str) -> str:
    """Return a range of days as queries state it. Raises ``ConfigError``."""
    first, _, last = dates.partition("-")
    try:
        begin, end = (datetime.strptime(day, "%Y%m%d").astimezone() for day in (first, last))
    except ValueError as error:
        raise ConfigError(f"--dates {dates}: give two days such as 20260101-20260131") from error
    if end < begin:
        raise ConfigError(f"--dates {dates}: the last day is before the first one")
    return dates


VERBS = (fetch,)
