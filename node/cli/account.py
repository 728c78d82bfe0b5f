"""``ainode account`` and ``ainode verify``: proof that nothing was lost and that no file was altered."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.errors import LedgerError, OperatorError

if TYPE_CHECKING:  # a verb imports what it needs when it runs
    from sqlalchemy import Engine

    from node.spool import Spool


@click.command()
@config_option
@json_option
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), help="Only series whose first image was received on this day."
)
@in_language_of_user
def account(*, config_path: Path, as_json: bool, day: datetime | None) -> None:
    """Check that everything received was decided on and delivered.

    Compares what was received with what was decided, analysed and delivered.

    Exits with status 7 if anything is unaccounted for, and with status 10 if anything else needs an operator.
    """
    from node.operate.account.description import attention, describe
    from node.operate.account.report import account as balance_of
    from node.operate.account.rows import read
    from node.service import open_storage

    config = load(config_path)
    engine, spool = open_storage(config)
    rows = read(engine, spool, queue_minutes=config.notify.queue_minutes, with_records=config.records.years > 0)
    balance = balance_of(rows, config.is_recipient, day.date() if day else None)
    if as_json:
        print_json(asdict(balance))
    else:
        echo(describe(balance))
    if balance.differences:
        raise LedgerError(
            f"{len(balance.differences)} differences; `ainode explain STUDY_UID` shows the history of each study"
        )
    if waiting := attention(balance):
        raise OperatorError(f"{len(waiting)} of the lines above need an operator")


@click.command()
@config_option
@json_option
@click.option("--fleet", "of_fleet", is_flag=True, help="Count the copies of every file on all machines instead.")
@in_language_of_user
def verify(*, config_path: Path, as_json: bool, of_fleet: bool) -> None:
    """Compare every file with the ledger; change nothing.

    Exits with status 7 if a file is missing, altered or unrecorded; with `--fleet`, if it has fewer copies than
    `[storage] copies` says without the ledger knowing it, or a copy has other content or is on a machine that does not
    answer.
    """
    from rich.console import Console
    from rich.progress import Progress

    from node.ledger.clock import clock_of
    from node.operate import verify as verification
    from node.service import open_storage

    engine, spool = open_storage(load(config_path))
    if of_fleet:
        _verify_copies(engine, spool, as_json=as_json)
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("studies and jobs", total=None)
        verified = verification.verify(
            engine, spool, clock_of(engine), lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        print_json(asdict(verified))
    else:
        echo(verification.describe(verified))
    if verified.faults:
        raise LedgerError(f"{verified.faults} files do not agree with the ledger; nothing was changed")


def _verify_copies(engine: Engine, spool: Spool, *, as_json: bool) -> None:
    from node.operate.verify_copies import describe_copies, verify_copies

    verified = verify_copies(engine, spool)
    if as_json:
        print_json(asdict(verified))
    else:
        echo(describe_copies(verified, spool.copies))
    if verified.faults:
        raise LedgerError(f"{verified.faults} copies are missing, corrupt or out of reach; nothing was changed")


VERBS = (account, verify)
