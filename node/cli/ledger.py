"""Verbs that read or change the ledger: status, explain, account, verify, retry, cancel, retract."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from node.cli.options import config_option, json_option, load, print_json
from node.errors import LedgerError


@click.command()
@config_option
@json_option
@click.option("--studies", default=20, show_default=True, help="Number of latest studies to list.")
def status(*, config_path: Path, as_json: bool, studies: int) -> None:
    """Show counts, waiting and failed work, and the latest studies."""
    from node.ledger import ACTIVE
    from node.operate.explain import clock
    from node.operate.status import status as read
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    summary = read(engine, config.storage.folder, studies)
    if as_json:
        print_json(summary)
        return
    conflicts = ("conflicts", "identity_changed", "outdated_results", "half_corrected", "held")
    for key in ("images", *conflicts, "quarantined", "free_gib"):
        click.echo(f"{key.replace('_', ' '):16} {summary[key]}")
    for key in ("series", "jobs", "outcomes", "deliveries", "commitments", "procedure_steps", "processes"):
        click.echo(
            f"{key.replace('_', ' '):16} " + (", ".join(f"{n} {what}" for what, n in summary[key].items()) or "none")
        )
    for destination in summary["down"]:
        how, until = (
            ("PAUSED", "until it is resumed")
            if destination["paused"]
            else ("DOWN", f"next probe {clock(destination['probe_at'])}")
        )
        click.echo(f"{how} since {clock(destination['opened_at'])}: {destination['destination']}, {until}")
        click.echo(f"  {destination['error']}")
    for destination in summary["overdue"]:
        click.echo(f"OVERDUE: job {destination['job_id']} to {destination['destination']}: {destination['error']}")
    for study in summary["studies"]:
        click.echo(f"\n{clock(study['last_at'])}  {study['study_instance_uid']}")
        click.echo(f"  {study['series']} series, {study['images']} images")
        for job in study["jobs"]:
            at = job["stage"] if job["state"] in ACTIVE else job["outcome"] or ""
            click.echo(f"  {job['pipeline']}: {job['state']} {at}  (job {job['id']})")


@click.command()
@config_option
@json_option
@click.argument("study_uid")
def explain(*, config_path: Path, as_json: bool, study_uid: str) -> None:
    """Explain what was done with a study, and why."""
    from node.operate.explain import describe
    from node.operate.explain import explain as read
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    history = read(engine, study_uid)
    if as_json:
        print_json(history)
    else:
        click.echo(describe(history))


@click.command()
@config_option
@json_option
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), help="Only series whose first image was received on this day."
)
def account(*, config_path: Path, as_json: bool, day: datetime | None) -> None:
    """Compare what was received with what was decided, analysed and delivered.

    Exits with status 7 if anything is unaccounted for.
    """
    from node.operate.account.description import describe
    from node.operate.account.report import account as balance_of
    from node.operate.account.rows import read
    from node.service import open_storage

    config = load(config_path)
    engine, spool = open_storage(config)
    rows = read(engine, spool, queue_minutes=config.notify.queue_minutes)
    balance = balance_of(rows, config.is_recipient, day.date() if day else None)
    if as_json:
        print_json(asdict(balance))
    else:
        click.echo(describe(balance))
    if balance.differences:
        raise LedgerError(
            f"{len(balance.differences)} differences; `ainode explain STUDY_UID` shows the history of each study"
        )


@click.command()
@config_option
@json_option
def verify(*, config_path: Path, as_json: bool) -> None:
    """Re-read every file and compare it with the ledger; change nothing.

    Exits with status 7 if a file is missing, altered or unrecorded.
    """
    from rich.console import Console
    from rich.progress import Progress

    from node.ledger.engine import now
    from node.operate import verify as verification
    from node.service import open_storage

    engine, spool = open_storage(load(config_path))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("studies and jobs", total=None)
        verified = verification.verify(
            engine, spool, now(), lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        print_json(asdict(verified))
    else:
        click.echo(verification.describe(verified))
    if verified.faults:
        raise LedgerError(f"{verified.faults} files do not agree with the ledger; nothing was changed")


@click.command()
@config_option
@click.argument("job_id")
def retry(config_path: Path, job_id: str) -> None:
    """Run a failed or cancelled job again."""
    from node.service import open_jobs

    open_jobs(load(config_path)).retry(job_id)
    click.echo(f"job {job_id} is scheduled again")


@click.command()
@config_option
@click.argument("job_id")
def cancel(config_path: Path, job_id: str) -> None:
    """Cancel a job; objects that were delivered stay at their destination."""
    from node.service import open_jobs

    open_jobs(load(config_path)).cancel(job_id)
    click.echo(f"job {job_id} is cancelled")


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
    """Withdraw delivered results: send a rejection note to every destination that has them."""
    from node.inference.retraction import retract as withdraw
    from node.service import open_jobs, open_storage

    config = load(config_path)
    engine, spool = open_storage(config)
    withdraw(open_jobs(config), engine, spool, job_id, reason)
    click.echo(f"job {job_id} is retracted; `ainode status` shows when its rejection note was delivered")


VERBS = (status, explain, account, verify, retry, cancel, retract)
