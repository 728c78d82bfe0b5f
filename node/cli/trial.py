"""``ainode trial``: a candidate beside the champion."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, local_user, print_json


@click.group()
def trial() -> None:
    """Compare a candidate in shadow with the champion."""


@trial.command()
@config_option
@json_option
@click.option(
    "--latest", default=200, show_default=True, type=click.IntRange(1, 100_000), help="Series to compare, at most."
)
@click.option(
    "--pdf",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a PDF with pictures of the disagreements to this file as well.",
)
@click.argument("champion")
@click.argument("candidate")
def report(*, config_path: Path, as_json: bool, latest: int, pdf: Path | None, champion: str, candidate: str) -> None:
    """Compare CHAMPION and CANDIDATE on the same series.

    Pairs lesions by overlap. Shows hits with McNemar's test where readers have judged, agreement (Dice, volumes),
    failures, run time, memory, and the studies on which they disagree.
    """
    from node.errors import ConfigError
    from node.feedback.trial_reading import MOST_PICTURES, read_trial
    from node.feedback.trial_report import as_text
    from node.service import open_storage

    config = load(config_path)
    for name in (champion, candidate):
        if name not in config.pipelines:
            raise ConfigError(f"there is no pipeline {name!r}; [pipelines.NAME] defines {', '.join(config.pipelines)}")
    pictures = 0 if pdf is None else MOST_PICTURES
    reading = read_trial(*open_storage(config), champion, candidate, latest, pictures=pictures)
    if pdf is not None:
        from node.feedback.trial_pdf import trial_pdf

        pdf.write_bytes(trial_pdf(reading, at=datetime.now(UTC).astimezone(), link=config.web.study_link))
    if as_json:
        print_json(asdict(reading.trial))
    else:
        echo(as_text(reading.trial))


_reason_option = click.option("--reason", required=True, help="Why; it is kept in the audit trail.")


@trial.command()
@config_option
@_reason_option
@click.argument("champion")
@click.argument("candidate")
def promote(*, config_path: Path, reason: str, champion: str, candidate: str) -> None:
    """Send the results of CANDIDATE in the place of CHAMPION.

    Applies to series that are decided on from now on, without a restart; CHAMPION goes on in shadow. Jobs that exist
    keep their destinations. `ainode trial rollback CHAMPION` undoes it.
    """
    from node.operate.trial_acts import promote_candidate
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    promote_candidate(config, engine, champion, candidate, reason=reason, who=local_user())
    echo(f"results of {candidate} are sent in the place of {champion}")


@trial.command()
@config_option
@_reason_option
@click.argument("champion")
def rollback(*, config_path: Path, reason: str, champion: str) -> None:
    """Send the results of CHAMPION again.

    Those of its candidate are kept in shadow from the next series on.
    """
    from node.operate.trial_acts import roll_back_candidate
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    candidate = roll_back_candidate(engine, champion, reason=reason, who=local_user())
    echo(f"results of {champion} are sent again in the place of {candidate}")
