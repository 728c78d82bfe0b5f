"""``ainode check`` and ``ainode doctor``: readiness checks, each failure with its remedy."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.translation import gettext
from node.translation.cells import cells, padded

if TYPE_CHECKING:
    from node.check import Check


@click.command()
@config_option
@json_option
@in_language_of_user
def check(*, config_path: Path, as_json: bool) -> None:
    """Check machine, configuration and destinations in seconds.

    Checks configuration, disk, ledger, port, device, weights and destinations (C-ECHO). Runs no pipeline;
    `ainode doctor` checks more.
    """
    from node.check import check as checks

    _print_checks(checks(load(config_path)), as_json=as_json)


@click.command()
@config_option
@json_option
@in_language_of_user
def doctor(*, config_path: Path, as_json: bool) -> None:
    """Run the checks of `ainode check` and longer ones.

    The longer ones are: rules that can never match, host names, certificates, clocks, SOP Classes that each destination
    accepts, last contact of each caller, disk speed, ledger integrity, and a test run of every pipeline on a
    synthetic series.
    """
    from node.doctor import examine

    _print_checks(examine(load(config_path), config_path), as_json=as_json)


def _print_checks(checks: Iterable[Check], *, as_json: bool) -> None:
    """Print each result as soon as it is known; exit with status 1 if any check failed."""
    from node.check import WORDS

    results = []
    width = max(cells(gettext(word)) for word in WORDS)
    for result in checks:
        results.append(result)
        if not as_json:
            echo(f"{padded(gettext(result.word), width)} {gettext(result.name)}: {result.found}")
            if result.remedy:
                echo(f"{'':{width}}   -> {result.remedy}")
    if as_json:
        print_json([asdict(result) for result in results])
    if not all(result.good for result in results):
        sys.exit(1)


VERBS = (check, doctor)
