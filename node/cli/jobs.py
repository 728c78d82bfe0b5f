"""``ainode retry``, ``cancel`` and ``retract``: what an operator does to one job."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, load


@click.command()
@config_option
@click.argument("job_id")
def retry(config_path: Path, job_id: str) -> None:
    """Run a failed or cancelled job again."""
    from node.service import open_jobs

    open_jobs(load(config_path)).retry(job_id)
    echo(f"job {job_id} is scheduled again")


@click.command()
@config_option
@click.argument("job_id")
def cancel(config_path: Path, job_id: str) -> None:
    """Cancel a job.

    Objects that were delivered stay at their destination; `ainode retract` withdraws them.
    """
    from node.service import open_jobs

    open_jobs(load(config_path)).cancel(job_id)
    echo(f"job {job_id} is cancelled")


@click.command()
@config_option
@click.option(
    "--reason",
    type=click.Choice(("quality", "safety", "worklist", "retention")),
    required=True,
    help="Poor quality, patient safety, wrong patient or order, or retention period over.",
)
@click.argument("job_id")
def retract(config_path: Path, job_id: str, reason: str) -> None:
    """Withdraw the delivered results of a job.

    Sends a rejection note to every destination that has them.
    """
    from node.inference.retraction import retract as withdraw
    from node.service import open_jobs, open_storage

    config = load(config_path)
    engine, spool = open_storage(config)
    withdraw(open_jobs(config), engine, spool, job_id, reason)
    echo(f"job {job_id} is retracted; `ainode status` shows when its rejection note was delivered")


VERBS = (retry, cancel, retract)
