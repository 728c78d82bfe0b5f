"""Verbs that ask or change the ledger: status, explain, account, verify, retry, cancel."""

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
@click.option("--studies", default=20, show_default=True, help="How many of the latest studies to list.")
def status(*, config_path: Path, as_json: bool, studies: int) -> None:
    """Counts, what waits, what failed, and the latest studies."""
    from node.operate.explain import clock
    from node.operate.status import status as read
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    found = read(engine, config.storage.folder, studies)
    if as_json:
        print_json(found)
        return
    conflicts = ("conflicts", "identity_changed", "outdated_results", "half_corrected", "held")
    for key in ("images", *conflicts, "quarantined", "free_gib"):
        click.echo(f"{key.replace('_', ' '):16} {found[key]}")
    for key in ("series", "jobs", "outcomes", "deliveries", "commitments", "procedure_steps", "processes"):
        click.echo(
            f"{key.replace('_', ' '):16} " + (", ".join(f"{n} {what}" for what, n in found[key].items()) or "none")
        )
    for one in found["down"]:
        how, until = (
            ("PAUSED", "until it is resumed") if one["paused"] else ("DOWN", f"next probe {clock(one['probe_at'])}")
        )
        click.echo(f"{how} since {clock(one['opened_at'])}: {one['destination']}, {until}")
        click.echo(f"  {one['error']}")
    for one in found["overdue"]:
        click.echo(f"OVERDUE: job {one['job_id']} to {one['destination']}: {one['error']}")
    for study in found["studies"]:
        click.echo(f"\n{clock(study['last_at'])}  {study['study_instance_uid']}")
        click.echo(f"  {study['series']} series, {study['images']} images")
        for job in study["jobs"]:
            at = job["stage"] if job["state"] in ("SCHEDULED", "IN PROGRESS") else job["outcome"] or ""
            click.echo(f"  {job['pipeline']}: {job['state']} {at}  (job {job['id']})")


@click.command()
@config_option
@json_option
@click.argument("study_uid")
def explain(*, config_path: Path, as_json: bool, study_uid: str) -> None:
    """Tell in plain words what was done with a study, and why."""
    from node.operate.explain import describe
    from node.operate.explain import explain as read
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    found = read(engine, study_uid)
    if as_json:
        print_json(found)
    else:
        click.echo(describe(found))


@click.command()
@config_option
@json_option
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Only series whose first image came on this local day.")
def account(*, config_path: Path, as_json: bool, day: datetime | None) -> None:
    """Balance what was received against what was decided, analysed and delivered.

    Ends with status 7 when there is anything that is not accounted for.
    """
    from node.operate.account.description import describe
    from node.operate.account.report import account as balance_of
    from node.operate.account.rows import read
    from node.service import open_storage

    config = load(config_path)
    engine, spool = open_storage(config)
    rows = read(engine, spool, queue_minutes=config.notify.queue_minutes)
    found = balance_of(rows, config.is_recipient, day.date() if day else None)
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(describe(found))
    if found.differences:
        raise LedgerError(
            f"{len(found.differences)} differences; `ainode explain STUDY_UID` tells what is known of each"
        )


@click.command()
@config_option
@json_option
def verify(*, config_path: Path, as_json: bool) -> None:
    """Re-read every file and compare it with the ledger; nothing is changed.

    Ends with status 7 when a file is missing, altered or unrecorded.
    """
    from rich.console import Console
    from rich.progress import Progress

    from node.ledger.engine import now
    from node.operate import verify as verification
    from node.service import open_storage

    engine, spool = open_storage(load(config_path))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("studies and jobs", total=None)
        found = verification.verify(
            engine, spool, now(), lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(verification.describe(found))
    if found.faults:
        raise LedgerError(f"{found.faults} files do not agree with the ledger; nothing was changed")


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
    """Stop a job; what was delivered stays delivered."""
    from node.service import open_jobs

    open_jobs(load(config_path)).cancel(job_id)
    click.echo(f"job {job_id} is cancelled")


@click.command()
@config_option
@click.option(
    "--reason",
    type=click.Choice(("quality", "safety", "worklist", "retention")),
    required=True,
    help="Bad quality, danger to the patient, wrong patient or order, or kept long enough.",
)
@click.argument("job_id")
def retract(config_path: Path, job_id: str, reason: str) -> None:
    """Withdraw delivered results: a rejection note goes to every destination that holds them."""
    from node.inference.retraction import retract as withdraw
    from node.service import open_jobs, open_storage

    config = load(config_path)
    engine, spool = open_storage(config)
    withdraw(open_jobs(config), engine, spool, job_id, reason)
    click.echo(f"job {job_id} is retracted; `ainode status` shows when its note has arrived")


VERBS = (status, explain, account, verify, retry, cancel, retract)
