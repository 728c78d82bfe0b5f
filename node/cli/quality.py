"""``ainode quality`` and ``resume``: what readers say about the results of pipelines, and what followed from it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, local_user, print_json


@click.command()
@config_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of text.")
@click.option(
    "--months", default=12, show_default=True, type=click.IntRange(1, 120), help="Months to count, with this one."
)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["version", "scanner", "month"]),
    help="One row for each of these; may be given several times. Default: all three.",
)
@click.option("--pdf", type=click.Path(path_type=Path, dir_okay=False), help="Write a PDF to this file as well.")
def quality(
    *, config_path: Path, as_json: bool, as_csv: bool, months: int, by: tuple[str, ...], pdf: Path | None
) -> None:
    """Count readers' verdicts on each pipeline.

    Shows positive predictive value, false reports, sensitivity against readers, Dice and volume agreement of edited
    lesions and the share of analyses with a verdict, with 95 % intervals, by version, scanner model and month (UTC). No
    rate is shown for fewer than 20 verdicts.
    """
    from node.feedback import quality_report as report
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    rows = report.VerdictCounts.read(engine, months).rows(by or report.BY)
    if pdf is not None:
        from datetime import UTC, datetime

        from node.feedback.quality_pdf import quality_pdf

        pdf.write_bytes(quality_pdf(rows, datetime.now(UTC).astimezone()))
    if as_json:
        print_json([asdict(row) for row in rows])
    elif as_csv:
        echo(report.as_csv(rows), nl=False)
    else:
        echo(report.as_text(rows))


@click.command()
@config_option
@click.option("--reason", required=True, help="Why its results may be sent again; it is kept in the audit trail.")
@click.argument("pipeline")
def resume(*, config_path: Path, reason: str, pipeline: str) -> None:
    """Send results of a PIPELINE again after its stop rule.

    Applies to analyses that are encoded from now on. Earlier results stay in shadow; `ainode retry JOB` analyses one
    again and sends it. Verdicts on earlier analyses count no more for the stop rule.
    """
    from node.operate.stop_rules import resume_pipeline
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    resume_pipeline(engine, pipeline, reason=reason, who=local_user())
    echo(f"results of pipeline {pipeline} are sent again")


VERBS = (quality, resume)
