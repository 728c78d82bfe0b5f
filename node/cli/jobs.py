"""``ainode retry``, ``prioritize``, ``cancel`` and ``retract``: what an operator does to one job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, in_language_of_user, load
from node.translation import gettext

if TYPE_CHECKING:
    from node.config import Config
    from node.ledger.jobs import Job

_job_argument = click.argument("name", metavar="JOB")
"""The id of a job, or what names a study with one job: see ``ainode explain --help``."""


@click.command()
@config_option
@_job_argument
@in_language_of_user
def retry(config_path: Path, name: str) -> None:
    """Run a failed or cancelled job again.

    JOB is the id of a job; the UID of a result, a series or a study with one job; with [web] show_patient also an
    accession number or a patient ID.
    """
    from node.service import open_jobs

    config = load(config_path)
    job = _find(config, name)
    open_jobs(config).retry(job.id)
    echo(gettext("job {id} ({pipeline}) is scheduled again", **_named(job)))


@click.command()
@config_option
@_job_argument
@click.argument("priority", type=click.Choice(("high", "medium", "low")))
@in_language_of_user
def prioritize(config_path: Path, name: str, priority: str) -> None:
    """Change the priority of a job that has not ended.

    It is named as for `ainode retry`. Of the jobs that wait, those of high priority go first. A job whose result this
    one needs is raised with it. What runs already is not interrupted.
    """
    from node.service import open_jobs

    config = load(config_path)
    job = _find(config, name)
    open_jobs(config).change_priority(job.id, priority)
    echo(gettext("job {id} ({pipeline}) has {priority} priority now", **_named(job), priority=gettext(priority)))


@click.command()
@config_option
@_job_argument
@in_language_of_user
def cancel(config_path: Path, name: str) -> None:
    """Cancel a JOB.

    It is named as for `ainode retry`. Objects that were delivered stay at their destination; `ainode retract` withdraws
    them.
    """
    from node.service import open_jobs

    config = load(config_path)
    job = _find(config, name)
    open_jobs(config).cancel(job.id)
    echo(gettext("job {id} ({pipeline}) is cancelled", **_named(job)))


@click.command()
@config_option
@click.option(
    "--reason",
    type=click.Choice(("quality", "safety", "worklist", "retention")),
    required=True,
    help="Poor quality, patient safety, wrong patient or order, or retention period over.",
)
@_job_argument
@in_language_of_user
def retract(config_path: Path, name: str, reason: str) -> None:
    """Withdraw the delivered results of a JOB.

    It is named as for `ainode retry`. Sends a rejection note to every destination that has them.
    """
    from node.inference.retraction import retract as withdraw
    from node.service import open_jobs, open_storage

    config = load(config_path)
    job = _find(config, name)
    engine, spool = open_storage(config)
    withdraw(open_jobs(config), engine, spool, job.id, reason)
    echo(
        gettext(
            "job {id} ({pipeline}) is retracted; `ainode status` shows when its rejection note was delivered",
            **_named(job),
        )
    )


def _named(job: Job) -> dict[str, str]:
    return {"id": job.id, "pipeline": job.pipeline}


def _find(config: Config, name: str) -> Job:
    from node.operate.lookup import find_job
    from node.service import open_storage

    return find_job(config, *open_storage(config), name)


VERBS = (retry, prioritize, cancel, retract)
