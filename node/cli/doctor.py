"""``ainode check`` and ``ainode doctor``: is all well, and what to do when not."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, json_option, load, print_json

if TYPE_CHECKING:
    from node.check import Check


@click.command()
@config_option
@json_option
def check(*, config_path: Path, as_json: bool) -> None:
    """Check configuration, disk, ledger, port, device, weights and every destination (C-ECHO).

    The short form of `ainode doctor`: seconds, and no pipeline is run.
    """
    from node.check import check as checks

    _print_checks(checks(load(config_path)), as_json=as_json)


@click.command()
@config_option
@json_option
def doctor(*, config_path: Path, as_json: bool) -> None:
    """Examine everything: what `ainode check` does, and all that takes longer.

    Rules that can never match, names of hosts, certificates, clocks, what each destination accepts, who called us,
    speed of the disk, integrity of the ledger, and every pipeline run once on a synthetic series.
    """
    from node.doctor import examine

    _print_checks(examine(load(config_path), config_path), as_json=as_json)


def _print_checks(checks: Iterable[Check], *, as_json: bool) -> None:
    """Print each as it comes; status 1 when one is not good."""
    answers = []
    for answer in checks:
        answers.append(answer)
        if not as_json:
            click.echo(f"{answer.word:<4} {answer.name}: {answer.found}")
            if answer.remedy:
                click.echo(f"       -> {answer.remedy}")
    if as_json:
        print_json([asdict(a) for a in answers])
    if not all(a.good for a in answers):
        sys.exit(1)


VERBS = (check, doctor)
