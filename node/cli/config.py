"""``ainode config``: publish the shared part of ``config.toml``, and see which machine has it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import (
    config_option,
    confirmed,
    echo,
    in_language_of_user,
    json_option,
    load,
    local_user,
    print_json,
)
from node.errors import ConfigError, PlatformError
from node.translation import gettext

if TYPE_CHECKING:
    from node.config import Config
    from node.operate.fleet_rules import FleetRules

_LISTED = 50
"""Versions in the list."""


@click.group()
def config() -> None:
    """Publish the shared part of config.toml to all machines.

    The machines that share a ledger have one configuration in common: when a series is complete, rules, destinations,
    pipelines, retention and more. Folders, addresses, devices and secrets are those of each machine.
    """


@config.command()
@config_option
@json_option
@in_language_of_user
def diff(*, config_path: Path, as_json: bool) -> None:
    """Show which shared values differ from the published ones.

    First those of this machine's file, then those that each running machine reports.
    """
    from node.ledger.published_rules import file_states, newest_rules
    from node.operate.published_text import difference_lines, state_lines

    file = _file(config_path)
    with file.engine.connect() as connection:
        newest, states = newest_rules(connection), file_states(connection)
    differences = file.untaken(newest)
    if as_json:
        print_json(
            {
                "published": newest and newest.number,
                "differences": differences,
                "machines": [asdict(state) for state in states],
            }
        )
        return
    if newest is None:
        echo(gettext("nothing has been published yet; `ainode config publish` does it"))
        return
    of = {"number": newest.number, "who": newest.who, "why": newest.why}
    echo(gettext("version {number}, published by {who}: {why}", **of))
    if differences:
        echo(gettext("{file} differs (here, published):", file=config_path))
    else:
        echo(gettext("{file} has everything that was published", file=config_path))
    for line in difference_lines(differences):
        echo(line)
    for state in states:
        for line in state_lines(state):
            echo(line)


@config.command()
@config_option
@click.option("--reason", help="Why; it is kept with the version.")
@click.option("--version", type=int, default=0, metavar="NUMBER", help="Publish this earlier version again.")
@click.option("--replace", type=int, default=0, metavar="NUMBER", help="Version that the file need not have.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and publish nothing.")
@click.option("--yes", is_flag=True, help="Run without the question.")
@in_language_of_user
def publish(*, config_path: Path, reason: str | None, version: int, replace: int, dry_run: bool, yes: bool) -> None:
    """Give this machine's shared values to all machines.

    Shows what changes, checks it, and loads every pipeline whose table changes. Every machine that shares the ledger
    checks it with its own file, and takes it over within seconds; running jobs end with what they began with.
    """
    from node.operate.published_text import difference_lines

    file = _file(config_path)
    proposal = file.proposal(version)
    for line in difference_lines(proposal.differences, between=" -> "):
        echo(line)
    if not proposal.differences:
        echo(gettext("no shared value changes"))
    changed = {key.split(".")[1] for key in proposal.differences if key.startswith("pipelines.")}
    if removed := sorted(changed - proposal.config.pipelines.keys()):
        echo(
            gettext(
                "every machine loses its own values of these pipelines, too: {names}. It keeps its file before in "
                "rules-versions of the storage folder; copy `options.run` from there when a pipeline returns",
                names=", ".join(removed),
            )
        )
    _check_pipelines(proposal.config, changed)
    if dry_run:
        return
    if not file.is_writable:
        raise PlatformError(f"{config_path} may not be written by you; run this as who administers the machine")
    if not yes and not confirmed(gettext("Give these values to all machines?")):
        return
    reason = reason or click.prompt(gettext("Reason"))
    number = file.publish(proposal, who=local_user(), why=reason, replace=replace)
    echo(
        gettext(
            "published the shared part of {file} as version {number}; `ainode config diff` shows which machines have "
            "it",
            file=config_path,
            number=number,
        )
    )


@config.command()
@config_option
@json_option
@click.argument("number", type=int, required=False)
@in_language_of_user
def versions(*, config_path: Path, as_json: bool, number: int | None) -> None:
    """List what was published, when, by whom and why.

    With NUMBER: show all of this version. `ainode config publish --version NUMBER` publishes it again.
    """
    from node.errors import NotFoundError
    from node.ledger.published_rules import published_version, published_versions
    from node.operate.explain import clock

    file = _file(config_path)
    with file.engine.connect() as connection:
        publications = (
            published_versions(connection, _LISTED) if number is None else [published_version(connection, number)]
        )
    listed = [version for version in publications if version is not None]
    if number is not None and not listed:
        raise NotFoundError(f"no version {number} was published; `ainode config versions` lists them")
    if as_json:
        print_json([asdict(version) for version in listed])
        return
    for version in listed:
        of = {"number": version.number, "at": clock(version.at), "who": version.who, "why": version.why}
        echo(gettext("version {number}, {at}, by {who}: {why}", **of))
        if number is not None:
            echo(f"\n{version.settings or ''}\n{version.text}")


@config.command()
@config_option
@click.option("--yes", is_flag=True, help="Run without the question.")
@in_language_of_user
def take(*, config_path: Path, yes: bool) -> None:
    """Take over what was published, and confirm all of it.

    Also what a machine does not take over by itself: values that name programs, models, files or addresses, or weaken
    encryption, isolation or de-identification. Files that this machine has under another name stay its own. Edits of
    this file that were not published are replaced; the file before is kept in the storage folder.
    """
    from node.operate.published_text import difference_lines

    file = _file(config_path)
    version = file.published()
    differences = file.untaken(version)
    for line in difference_lines(differences, between=" -> "):
        echo(line)
    if version is None or not differences:
        echo(gettext("{file} has everything that was published", file=config_path))
    elif yes or confirmed(gettext("Write this into {file}?", file=config_path)):
        taken = file.take_over(confirmed_by=local_user(), seen=version.number)
        echo(gettext("{file} has version {number}", file=config_path, number=taken.number))
        echo(gettext("`ainode check` says whether this machine has all files that it names"))


def _file(config_path: Path) -> FleetRules:
    from node.operate.fleet_rules import FleetRules
    from node.service import open_storage

    own = load(config_path)
    if not own.storage.ledger_url:
        raise ConfigError("[storage] ledger_url is empty: no other machine shares this ledger")
    engine, _ = open_storage(own)
    return FleetRules.of(engine, config_path, own.storage.folder)


def _check_pipelines(of: Config, names: Collection[str]) -> None:
    """Raise ``ConfigError`` for one of these pipelines that cannot be loaded as it is configured."""
    from node.check import describe_pipelines

    tables = {name: table for name, table in of.pipelines.items() if name in names}
    for entry in describe_pipelines(of.model_copy(update={"pipelines": tables})):
        if "error" in entry:
            raise ConfigError(f"[pipelines.{entry['name']}] cannot be loaded: {entry['error']}")


VERBS = (config,)
